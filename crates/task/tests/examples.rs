//! The examples of this crate do what they say.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

#[allow(dead_code, reason = "its `main` is not called here")]
#[path = "../examples/pipeline.rs"]
mod pipeline;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pipeline_does_everything_once_and_holds_its_bound() {
    let (primes, statistics) = pipeline::run().await.unwrap();
    // Of the numbers from 0 to 2,999.
    assert_eq!(primes, 430);
    assert_eq!((statistics.puts, statistics.length, statistics.unfinished), (3_000, 0, 0));
    // Those that are put back may be one more than it takes.
    assert!(statistics.length_max <= 101, "{statistics:?}");
}
