//! What the control thread does for upstreams: it looks names up, checks health, and tells of servers that come back.
//!
//! One task for each upstream of the running configuration, below it one for each name and, with health checks, one for each
//! server. A task ends when what it is for is gone.

use super::balance::Dice;
use super::group::Group;
use super::probe::probe;
use super::registry::Servers;
use super::resolve::{Resolve, Site};
use super::server::Server;
use crate::clock::Time;
use crate::config::HealthCheck;
use crate::engine::Clock;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::task::JoinHandle;

/// Time for a look-up; the next one may overtake it then.
const LOOKUP_PATIENCE: Duration = Duration::from_secs(30);
/// Time to the next look-up after the first failure; it doubles up to `resolve_interval`.
const FIRST_RETRY: Duration = Duration::from_millis(500);
/// How often is looked whether ejected servers have come back.
const ROLL_CALL: Duration = Duration::from_secs(1);

/// A task that ends when this is dropped.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn start(future: impl Future<Output = ()> + Send + 'static) -> Task {
    Task(tokio::spawn(future))
}

/// Looks after the upstreams of the running configuration, for ever.
pub async fn look_after(servers: Servers, time: Time) {
    let mut tasks: Vec<(Arc<Group>, Task)> = Vec::new();
    loop {
        let current = servers.current();
        tasks.retain(|(group, _)| current.iter().any(|other| Arc::ptr_eq(group, other)));
        for group in &current {
            if !tasks.iter().any(|(known, _)| Arc::ptr_eq(known, group)) {
                let keeping = look_after_one(Arc::clone(group), Arc::clone(servers.resolver()), time.clone());
                tasks.push((Arc::clone(group), start(keeping)));
            }
        }
        servers.replaced().await;
    }
}

async fn look_after_one(group: Arc<Group>, resolver: Arc<dyn Resolve>, time: Time) {
    let names: Vec<&Arc<Site>> = group.sites.iter().filter(|site| site.has_name()).collect();
    let unsettled = Arc::new(AtomicUsize::new(names.len()));
    let _lookups: Vec<Task> = names
        .into_iter()
        .map(|site| start(look_up(Arc::clone(&group), Arc::clone(site), Arc::clone(&resolver), Arc::clone(&unsettled))))
        .collect();
    let mut changes = group.changes();
    let mut watched: Vec<Watched> = Vec::new();
    loop {
        let servers = group.servers();
        watched.retain(|watched| servers.iter().any(|server| Arc::ptr_eq(server, &watched.server)));
        for server in &servers {
            if !watched.iter().any(|watched| Arc::ptr_eq(server, &watched.server)) {
                watched.push(Watched::new(&group, server));
            }
        }
        watched.iter_mut().for_each(|watched| watched.tell(&group, &time));
        tokio::select! {
            _ = changes.changed() => {}
            () = tokio::time::sleep(ROLL_CALL) => {}
        }
    }
}

/// A server that is looked after.
struct Watched {
    server: Arc<Server>,
    /// Asks it how it is, if anybody does.
    _check: Option<Task>,
    was_ejected: bool,
}

impl Watched {
    fn new(group: &Arc<Group>, server: &Arc<Server>) -> Watched {
        let check = |settings| start(check(Arc::clone(group), Arc::clone(server), settings));
        let _check = group.settings.health.clone().map(check);
        Watched { server: Arc::clone(server), _check, was_ejected: false }
    }

    /// Tells that it is no longer ejected. That it was, was told by whoever did it.
    fn tell(&mut self, group: &Group, time: &Time) {
        let is_ejected = self.server.outlier.is_ejected(time.now());
        if self.was_ejected && !is_ejected {
            tracing::info!(upstream = group.name(), server = %self.server.address, "a server is no longer left out");
        }
        self.was_ejected = is_ejected;
    }
}

/// Looks one name up at intervals. `unsettled` counts the names that have not been looked up yet.
async fn look_up(group: Arc<Group>, site: Arc<Site>, resolver: Arc<dyn Resolve>, unsettled: Arc<AtomicUsize>) {
    let mut retry = FIRST_RETRY;
    for nth in 0_u64.. {
        let looking = resolver.resolve(site.target.host());
        let found = tokio::time::timeout(LOOKUP_PATIENCE, looking).await;
        let found =
            found.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "the look-up takes too long")));
        let learned = site.learn(found);
        group.metrics().lookup(group.name(), learned.is_ok());
        let is_last = nth == 0 && unsettled.fetch_sub(1, Relaxed) == 1;
        if is_last || matches!(learned, Ok(true)) {
            group.refresh(is_last);
        }
        let interval = group.settings.resolve_interval;
        let pause = if learned.is_ok() { interval } else { retry.min(interval) };
        retry = if learned.is_ok() { FIRST_RETRY } else { retry.saturating_mul(2) };
        tokio::time::sleep(pause).await;
    }
}

/// Checks one server's health at intervals, the first time at once.
async fn check(group: Arc<Group>, server: Arc<Server>, settings: HealthCheck) {
    let dice = Dice::random();
    loop {
        let outcome = probe(&server, &settings).await;
        group.metrics().health_check(group.name(), outcome.is_ok());
        match (server.health.note(outcome.is_ok(), &settings), outcome) {
            (Some(true), _) => {
                tracing::info!(upstream = group.name(), server = %server.address, "a server is well again")
            }
            (Some(false), Err(why)) => {
                tracing::warn!(upstream = group.name(), server = %server.address, %why, "a server is unwell, and gets no requests");
            }
            _ => {}
        }
        tokio::time::sleep(jittered(settings.interval, &dice)).await;
    }
}

/// Give or take a tenth, so that many gateways do not ask in step.
fn jittered(interval: Duration, dice: &Dice) -> Duration {
    let thousandths = u32::try_from(900 + dice.below(201)).unwrap_or(1_000);
    interval / 1_000 * thousandths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_is_a_tenth() {
        let dice = Dice::seeded(3);
        let pauses: Vec<_> = (0..1_000).map(|_| jittered(Duration::from_secs(10), &dice)).collect();
        assert!(pauses.iter().all(|pause| (9_000..=11_000).contains(&pause.as_millis())));
        assert!(pauses.iter().min() < pauses.iter().max());
    }
}
