//! A future that is polled only when it asked for it.
//!
//! What a session may end for (a kill, its age, the end of its lease) lives in the same task as the bytes that it moves, and would be asked
//! again each time a byte comes. Behind a waker of its own it costs one look at a flag.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::Stream;

/// A future, or a stream, with a bell of its own.
pub struct Woken<T> {
    inner: T,
    bell: Arc<Bell>,
    /// Rings the bell.
    ring: Waker,
    /// Whom the bell wakes.
    task: Option<Waker>,
}

struct Bell {
    rung: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Rung first, woken second: whoever leaves his waker looks for a ring after it, and finds this one if we did not find him.
        self.rung.store(true, Ordering::Release);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(task) = task {
            task.wake();
        }
    }
}

impl<T: Unpin> Woken<T> {
    /// It is polled at the first poll, and then when it was woken.
    pub fn new(inner: T) -> Self {
        let bell = Arc::new(Bell { rung: AtomicBool::new(true), task: Mutex::default() });
        let ring = Waker::from(Arc::clone(&bell));
        Self { inner, bell, ring, task: None }
    }

    fn poll_woken<R>(&mut self, cx: &Context<'_>, poll: impl FnOnce(Pin<&mut T>, &mut Context<'_>) -> Poll<R>) -> Poll<R> {
        if !self.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            *self.bell.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
            self.task = Some(cx.waker().clone());
        }
        if !self.bell.rung.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        self.bell.rung.swap(false, Ordering::AcqRel);
        poll(Pin::new(&mut self.inner), &mut Context::from_waker(&self.ring))
    }
}

impl<F: Future + Unpin> Future for Woken<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.get_mut().poll_woken(cx, |inner, cx| inner.poll(cx))
    }
}

impl<S: Stream + Unpin> Stream for Woken<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let this = self.get_mut();
        let polled = this.poll_woken(cx, |inner, cx| inner.poll_next(cx));
        if polled.is_ready() {
            // A stream that gave something says no more until it is asked again.
            this.bell.rung.store(true, Ordering::Release);
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::StreamExt;
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn it_is_polled_at_first_and_when_it_was_woken_and_not_else() {
        let (tell, mut told) = mpsc::unbounded_channel::<()>();
        let mut polls = 0;
        let mut woken = Woken::new(Box::pin(poll_fn(|cx| {
            polls += 1;
            told.poll_recv(cx)
        })));
        for _ in 0..5 {
            assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut woken).poll(cx).is_pending())).await);
        }
        tell.send(()).unwrap();
        assert_eq!((&mut woken).await, Some(()));
        drop(woken);
        assert_eq!(polls, 2);
    }

    #[tokio::test]
    async fn it_wakes_the_task_that_polled_it_last() {
        let (tell, mut told) = mpsc::unbounded_channel::<u8>();
        let mut woken = Woken::new(Box::pin(async move { told.recv().await }));
        assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut woken).poll(cx).is_pending())).await);
        let other = tokio::spawn(woken);
        tokio::task::yield_now().await;
        tell.send(7).unwrap();
        assert_eq!(other.await.unwrap(), Some(7));
    }

    #[tokio::test]
    async fn a_stream_is_asked_until_it_has_nothing_more() {
        let (tell, told) = mpsc::unbounded_channel::<u8>();
        (1..=3).for_each(|number| tell.send(number).unwrap());
        drop(tell);
        let stream = futures_util::stream::unfold(told, async |mut told| told.recv().await.map(|number| (number, told)));
        let all: Vec<u8> = Woken::new(Box::pin(stream)).collect().await;
        assert_eq!(all, [1, 2, 3]);
    }
}
