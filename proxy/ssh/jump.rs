//! A link that names no connection: `ssh -J alice@keyward deploy@web-1`, or plain `ssh alice@keyward`. It has an identity and no session. Each
//! `direct-tcpip` channel that its client opens is a link of its own, inside: with our certificate for the name that was asked for, on its own
//! task, under the same identity, with a session of its own. A `session` channel is told what there is to reach.

mod inside;
mod outer;

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use keyward_auth::Identity;
use keyward_ssh_transport::connection::served::{Target, Terminal};

use super::login::Who;
use super::visitor::{Begun, visit};
use super::wire::{Silent, Wire};
use super::{NAME, refuse};
use crate::error::{Party, SessionError, Stage};
use crate::link::Link;
use crate::protocol::Served;
use crate::refusal::{Reason, Refusal};
use crate::stream::Stream;
use crate::told;
use crate::woken::Woken;
use inside::UNTAKEN;
use outer::{Host, Outer};

/// Serves the channels until the client leaves, or there is nothing left to serve.
pub(super) async fn serve(link: &mut Link, client: &mut Stream, wire: &mut Wire, who: Arc<Who>) -> Result<Served, SessionError> {
    let limits = link.proxy.limits();
    let place = link.proxy.registry.admit_jump(who.identity.user(), &limits);
    let full = || SessionError::new(Refusal::Busy, Party::Client, Stage::Authorise, "a limit on jumps is reached");
    let _place = place.ok_or_else(full)?;
    link.handshake = None;
    link.count_stages();
    let lifetime = limits.max_lifetime.get();
    let until = if lifetime.is_zero() { None } else { Instant::now().checked_add(lifetime) };
    let mut jump = Jump { link, outer: Outer::new(client, wire), who, until, untaken: UNTAKEN };
    let ended = jump.run(limits.idle_timeout.get()).await;
    match ended {
        Ended::Left => {}
        Ended::Broken(silent) => {
            let error = silent.of_client(Stage::Authorise);
            if !error.left {
                return Err(error);
            }
        }
        Ended::Idle => jump.goodbye(Refusal::SessionEnded(Reason::Idle)).await,
        Ended::TooOld => jump.goodbye(Refusal::SessionEnded(Reason::Lifetime)).await,
        Ended::Drained => jump.goodbye(Refusal::ShuttingDown).await,
    }
    Ok(Served::Request)
}

/// An outer link.
struct Jump<'a> {
    link: &'a Link,
    outer: Outer<'a>,
    who: Arc<Who>,
    /// Then no more links begin inside, and when none is left it ends. `None`: it may grow as old as it likes.
    until: Option<Instant>,
    /// What an inner link has said waits so long for the client, once it has ended.
    untaken: Duration,
}

enum Ended {
    Left,
    Broken(Silent),
    Idle,
    TooOld,
    Drained,
}

/// Who lets links in.
struct Doorman<'a> {
    link: &'a Link,
    who: &'a Arc<Who>,
    /// The outer link has reached its longest lifetime.
    refuses: bool,
}

impl Host for Doorman<'_> {
    fn visit(&mut self, target: &Target<'_>) -> Result<Begun, String> {
        let begun = if self.refuses {
            Err("this link has reached its longest lifetime; connect again")
        } else {
            visit(self.link, self.who, target)
        };
        begun.map_err(|text| told::sentence(text, self.link.id))
    }

    fn what_there_is(&mut self, terminal: Terminal) -> String {
        what_there_is(self.link, &self.who.identity, terminal)
    }
}

impl Jump<'_> {
    async fn run(&mut self, idle: Duration) -> Ended {
        let draining = self.link.proxy.draining.clone();
        let drained = pin!(draining.cancelled());
        let mut drained = Woken::new(drained);
        let mut clock = pin!(tokio::time::sleep(Duration::ZERO));
        let mut idle_since = Instant::now();
        std::future::poll_fn(|cx| {
            loop {
                if Pin::new(&mut drained).poll(cx).is_ready() {
                    self.untaken = told::PATIENCE;
                }
                let now = Instant::now();
                match self.turn(cx, now) {
                    Ok(true) => continue,
                    Ok(false) => {}
                    Err(ended) => return Poll::Ready(ended),
                }
                // What counts are the links inside: a session that asks for nothing would keep us for good.
                if !self.outer.inside.is_empty() {
                    idle_since = now;
                }
                let over = if idle.is_zero() { None } else { idle_since.checked_add(idle) };
                let next = match self.next(now, over) {
                    Ok(next) => next,
                    Err(ended) => return Poll::Ready(ended),
                };
                // What `tick` began has to be written.
                let outer = &mut self.outer;
                if !outer.wire.conn.output().is_empty() && outer.wire.poll_flush(cx, outer.client).is_ready() {
                    continue;
                }
                let Some(next) = next else { return Poll::Pending };
                clock.as_mut().reset(next.into());
                if clock.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
            }
        })
        .await
    }

    /// Nothing moves: what is waited for, if there is anything. `idle`: when a link with none inside has been so for too long.
    fn next(&mut self, now: Instant, idle: Option<Instant>) -> Result<Option<Instant>, Ended> {
        if self.outer.wire.eof {
            return Err(Ended::Left);
        }
        let idle = idle.filter(|_| self.outer.inside.is_empty());
        if self.outer.inside.is_empty() {
            if self.link.proxy.draining.is_cancelled() {
                return Err(Ended::Drained);
            }
            if self.is_too_old(now) {
                return Err(Ended::TooOld);
            }
            if idle.is_some_and(|due| due <= now) {
                return Err(Ended::Idle);
            }
        }
        let tick = self.outer.wire.conn.tick(now).map_err(|fatal| Ended::Broken(Silent::Fatal(fatal)))?;
        let until = self.until.filter(|until| *until > now);
        Ok([tick, idle, until, self.outer.inside.due(self.untaken)].into_iter().flatten().min())
    }

    /// Moves what can be moved; whether anything was.
    fn turn(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, Ended> {
        let refuses = self.is_too_old(now);
        let mut doorman = Doorman { link: self.link, who: &self.who, refuses };
        self.outer.turn(cx, now, self.untaken, &mut doorman).map_err(|silent| silent.map_or(Ended::Left, Ended::Broken))
    }

    fn is_too_old(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    async fn goodbye(&mut self, refusal: Refusal) {
        let error = SessionError::new(refusal, Party::Proxy, Stage::Authorise, "the link of a jump is over");
        refuse::tell(self.outer.client, self.outer.wire, self.link.id, &error).await;
    }
}

/// What a session on a link without a connection is told.
fn what_there_is(link: &Link, identity: &Identity, terminal: Terminal) -> String {
    let user = identity.user();
    let names: Vec<String> = link.proxy.gate.reachable(identity, NAME).iter().map(ToString::to_string).collect();
    let mut text = format!("keyward: name what you want to reach: ssh {user}+NAME@…, or ssh -J {user}@… NAME (session {})\n", link.id);
    text.push_str(if names.is_empty() { "You may reach nothing by ssh.\n" } else { "You may reach:\n" });
    for name in names {
        text.push_str("  ");
        text.push_str(&name);
        text.push('\n');
    }
    match terminal {
        Terminal::None => text,
        Terminal::Raw => text.replace('\n', "\r\n"),
    }
}
