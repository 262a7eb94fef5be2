//! Examples of this crate, on a private server.

use std::time::Duration;

use baiwan::EventLoop;
use serde::Deserialize;

use crate::rig::{Rig, server};

#[allow(dead_code, reason = "its `main` is not called here")]
#[path = "../../examples/fetch.rs"]
mod fetch;

#[derive(Debug, Deserialize)]
struct Part {
    url: String,
    text: Option<String>,
    error: Option<String>,
}

/// What the page of these parts says.
fn page(event_loop: EventLoop, numbers: &[u32], deadline: Duration) -> Vec<Part> {
    let other = Rig::start(server(event_loop), fetch::app(Vec::new(), deadline));
    let urls: Vec<_> = numbers.iter().map(|number| format!("http://{}/parts/{number}", other.address())).collect();
    let app_urls = urls.clone();
    let rig = Rig::start_with(server(event_loop), move |_| fetch::app(app_urls.clone(), deadline));
    let mut client = rig.connect();
    let answer = client.get("/page");
    assert_eq!(answer.status, 200);
    let parts: Vec<Part> = serde_json::from_slice(&answer.body).unwrap();
    assert!(parts.iter().map(|part| &part.url).eq(&urls), "{parts:?}");
    drop(client);
    rig.stop();
    other.stop();
    parts
}

pub(crate) fn a_page_of_twenty_parts_has_what_came_back(event_loop: EventLoop) {
    let numbers: Vec<u32> = (1..=20).filter(|&number| number != 13).collect();
    for (number, part) in numbers.iter().zip(page(event_loop, &numbers, Duration::from_secs(60))) {
        match number {
            7 => assert!(part.text.is_none() && part.error.unwrap().contains("404"), "the other side said so"),
            _ => assert_eq!((part.text, part.error), (Some(format!("part {number}")), None)),
        }
    }
}

pub(crate) fn a_part_that_does_not_come_holds_nobody_up_beyond_the_deadline(event_loop: EventLoop) {
    let [part] = &page(event_loop, &[13], Duration::from_millis(50))[..] else { panic!("not one part") };
    assert_eq!((part.text.as_deref(), part.error.as_deref()), (None, Some("page: not done within 50ms")));
}
