//! The threads that serve links: one event loop each, as many as there are cores, and a link stays where it began.
//!
//! A runtime that lets its threads take tasks from each other wakes one for another at almost every message of a session, and pays for it
//! with system calls and cold caches; a session is two sockets and needs nobody. What belongs to no link (accepting, reloads, the admin's
//! sockets) stays with the main runtime.

use std::future::Future;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A name that does not resolve must not keep a process that was told to end.
const LAST_TASKS: Duration = Duration::from_secs(1);

/// All lanes. They end when it is dropped, with what still runs there.
pub struct Lanes(Vec<Lane>);

struct Lane {
    handle: Handle,
    live: Arc<AtomicUsize>,
    end: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

/// One link of a lane.
struct Counted(Arc<AtomicUsize>);

impl Lanes {
    /// As many as this process may use cores.
    ///
    /// # Errors
    /// The system gives no more threads or files.
    pub fn start() -> io::Result<Self> {
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        (0..cores).map(Lane::start).collect::<io::Result<Vec<_>>>().map(Self)
    }

    /// Runs the task of a link in the lane that has the fewest.
    pub fn run(&self, links: &TaskTracker, task: impl Future<Output = ()> + Send + 'static) {
        let Some(lane) = self.0.iter().min_by_key(|lane| lane.live.load(Ordering::Relaxed)) else { return };
        lane.live.fetch_add(1, Ordering::Relaxed);
        let counted = Counted(Arc::clone(&lane.live));
        let task = async move {
            task.await;
            drop(counted);
        };
        drop(links.spawn_on(task, &lane.handle));
    }
}

impl Lane {
    fn start(number: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().thread_name(format!("lane-{number}-blocking")).build()?;
        let (handle, end) = (runtime.handle().clone(), CancellationToken::new());
        let told = end.clone();
        let thread = thread::Builder::new().name(format!("lane-{number}")).spawn(move || serve(runtime, &told))?;
        Ok(Self { handle, live: Arc::default(), end, thread: Some(thread) })
    }
}

fn serve(runtime: Runtime, end: &CancellationToken) {
    runtime.block_on(end.cancelled());
    runtime.shutdown_timeout(LAST_TASKS);
}

impl Drop for Lanes {
    fn drop(&mut self) {
        // All are told before one is waited for.
        self.0.iter().for_each(|lane| lane.end.cancel());
        for thread in self.0.iter_mut().filter_map(|lane| lane.thread.take()) {
            // A panic in it was told by its own thread.
            let _ = thread.join();
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tokio::sync::{Barrier, mpsc};

    use super::*;

    #[tokio::test]
    async fn links_are_spread_over_the_lanes_and_end_where_they_began() {
        let lanes = Lanes((0..2).map(|number| Lane::start(number).unwrap()).collect());
        let (links, all, (told, mut names)) = (TaskTracker::new(), Arc::new(Barrier::new(6)), mpsc::unbounded_channel());
        for _ in 0..6 {
            let (all, told) = (Arc::clone(&all), told.clone());
            lanes.run(&links, async move {
                let began = thread::current().id();
                all.wait().await;
                tokio::task::yield_now().await;
                told.send((began, thread::current().id())).unwrap();
            });
        }
        links.close();
        links.wait().await;
        drop(told);
        let mut per_lane = HashMap::new();
        while let Some((began, ended)) = names.recv().await {
            assert_eq!(began, ended);
            *per_lane.entry(began).or_insert(0) += 1;
        }
        assert_eq!(per_lane.into_values().collect::<Vec<_>>(), [3, 3]);
        assert!(lanes.0.iter().all(|lane| lane.live.load(Ordering::Relaxed) == 0), "who has left is not counted");
    }

    #[tokio::test]
    async fn a_task_that_panics_is_not_counted_any_more_and_harms_no_other() {
        let lanes = Lanes(vec![Lane::start(0).unwrap()]);
        let links = TaskTracker::new();
        lanes.run(&links, async { panic!("this one is meant") });
        let (told, heard) = tokio::sync::oneshot::channel();
        lanes.run(&links, async { told.send(7).unwrap() });
        assert_eq!(heard.await.unwrap(), 7);
        links.close();
        links.wait().await;
        assert_eq!(lanes.0[0].live.load(Ordering::Relaxed), 0);
    }
}
