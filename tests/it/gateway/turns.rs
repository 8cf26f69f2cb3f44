//! Object locks in the stack without sockets: panics, and the exact length of a wait.

use crate::support::running::{LIVE, keys};
use crate::support::seed;
use crate::support::stub::{Deed, Stack, StubResponse, peer, poll_once, read};
use http::Request;
use std::future::Future;
use std::path::Path;
use std::task::Poll;
use std::time::Duration;

const CONFIG: &str = r#"
[auth]
keys_file = "keys.toml"
[upstreams.api]
servers = ["http://127.0.0.1:9"]
[[endpoints]]
match = "POST /v1/payment_intents/{intent}"
lock = { per = ["path.intent"], wait = "5s" }
[[limits]]
name = "rate"
stage = "global"
rate = "1/h"
burst = 10
[[limits]]
name = "slots"
stage = "endpoint"
concurrency = 10
"#;

fn stack() -> Stack {
    let config = tollgate::config::parse(CONFIG, Path::new("t.toml"), &seed()).unwrap();
    Stack::new(config, &keys())
}

fn write(deed: Deed) -> Request<()> {
    let request = Request::builder().method("POST").uri("/v1/payment_intents/pi_1").header("host", "api.test");
    let request = request.header("authorization", format!("Bearer {LIVE}")).header("x-stub", deed.as_str());
    request.body(()).unwrap()
}

fn ready(answer: Poll<StubResponse>) -> StubResponse {
    match answer {
        Poll::Ready(response) => response,
        Poll::Pending => panic!("it waits"),
    }
}

fn assert_idle(stack: &Stack) {
    let locks = &stack.home.shared.locks;
    assert_eq!((locks.held(), locks.waiters(), stack.count("slots").in_flight), (0, 0, 0));
}

/// With a clock of tokio's that stands still until the test moves it.
fn with_still_time(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(test);
}

#[test]
fn a_panic_passes_the_turn_on() {
    with_still_time(async {
        for deed in [Deed::PanicBefore, Deed::PanicAfter, Deed::Fail] {
            let stack = stack();
            let peer = peer("192.0.2.1");
            let mut first = stack.call(&peer, write(deed));
            let holder = poll_once(&mut first);
            assert!(holder.is_ready());
            let mut holding = stack.call(&peer, write(Deed::Wait));
            assert!(poll_once(&mut holding).is_pending());
            // This one panics, or fails, once it has waited for its turn.
            let mut second = stack.call(&peer, write(deed));
            let mut third = stack.call(&peer, write(Deed::Answer));
            assert!(poll_once(&mut second).is_pending() && poll_once(&mut third).is_pending());
            assert_eq!(stack.home.shared.locks.waiters(), 2);
            assert_eq!(stack.release(holding).status(), 200);
            peer.let_go();
            assert!(matches!(ready(poll_once(&mut second)).status().as_u16(), 500 | 502));
            read(ready(poll_once(&mut third)));
            peer.let_go();
            assert_idle(&stack);
        }
    });
}

#[test]
fn a_panic_in_the_answer_s_body_passes_the_turn_on() {
    with_still_time(async {
        let stack = stack();
        let peer = peer("192.0.2.1");
        let response = ready(poll_once(&mut stack.call(&peer, write(Deed::PanicInBody))));
        let mut next = stack.call(&peer, write(Deed::Answer));
        assert!(poll_once(&mut next).is_pending(), "the answer is not read yet");
        let reading = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| read(response)));
        assert!(reading.is_err());
        read(ready(poll_once(&mut next)));
        peer.let_go();
        assert_idle(&stack);
    });
}

#[test]
fn a_wait_lasts_as_long_as_the_endpoint_says() {
    with_still_time(async {
        let stack = stack();
        let peer = peer("192.0.2.1");
        let mut holder = stack.call(&peer, write(Deed::Wait));
        assert!(poll_once(&mut holder).is_pending());
        let mut waiter = stack.call(&peer, write(Deed::Answer));
        assert!(poll_once(&mut waiter).is_pending());
        assert_eq!(stack.count("slots").in_flight, 2, "who waits is in progress");
        tokio::time::advance(Duration::from_millis(4_990)).await;
        assert!(poll_once(&mut waiter).is_pending());
        tokio::time::advance(Duration::from_millis(20)).await;
        assert_eq!(ready(poll_once(&mut waiter)).status(), 429);
        assert_eq!((stack.count("slots").in_flight, stack.home.shared.locks.waiters()), (1, 0));
        drop(holder);
        assert_idle(&stack);
    });
}

#[test]
fn a_turn_that_comes_with_the_time_out_is_taken() {
    with_still_time(async {
        let stack = stack();
        let peer = peer("192.0.2.1");
        let mut holder = stack.call(&peer, write(Deed::Wait));
        assert!(poll_once(&mut holder).is_pending());
        let mut waiter = stack.call(&peer, write(Deed::Answer));
        assert!(poll_once(&mut waiter).is_pending());
        tokio::time::advance(Duration::from_secs(6)).await;
        drop(holder);
        let response = ready(poll_once(&mut waiter));
        assert_eq!(response.status(), 200);
        read(response);
        peer.let_go();
        assert_idle(&stack);
    });
}

/// Its slots, its place in the queue and its tokens: 10 of them, and all 10 are there afterwards.
#[test]
fn who_leaves_the_queue_has_taken_nothing() {
    with_still_time(async {
        let stack = stack();
        let peer = peer("192.0.2.1");
        let mut holder = stack.call(&peer, write(Deed::Wait));
        assert!(poll_once(&mut holder).is_pending());
        for _ in 0..20 {
            let mut waiter = stack.call(&peer, write(Deed::Answer));
            assert!(poll_once(&mut waiter).is_pending());
            drop(waiter);
        }
        // It was not forwarded yet either.
        drop(holder);
        assert_idle(&stack);
        let statuses: Vec<u16> = (0..11)
            .map(|_| {
                let response = stack.ask(&peer, write(Deed::Answer));
                let status = response.status().as_u16();
                read(response);
                peer.let_go();
                status
            })
            .collect();
        assert_eq!(statuses, [[200; 10].as_slice(), &[429]].concat());
    });
}
