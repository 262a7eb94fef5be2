//! Where handlers run, and what becomes of tasks that outlive their request.

use crate::comparison::twice;
use crate::differences::{BLOCK_IN_PLACE, LATE_READER, LISTENERS, RUNTIMES, UNDOING};
use crate::stage::{Server, Stage};

/// Whether a type is a listener for `axum::serve`, and for `baiwan::serve`.
macro_rules! listens {
    ($listener:ty) => {{
        #[allow(dead_code, reason = "for those of which it is true")]
        trait No {
            const YES: bool = false;
        }
        struct Axum<T>(std::marker::PhantomData<T>);
        struct Baiwan<T>(std::marker::PhantomData<T>);
        impl<T> No for Axum<T> {}
        impl<T> No for Baiwan<T> {}
        #[allow(dead_code, reason = "for those of which it is true")]
        impl<T: axum::serve::Listener> Axum<T> {
            const YES: bool = true;
        }
        #[allow(dead_code, reason = "for those of which it is true")]
        impl<T: baiwan::Listen> Baiwan<T> {
            const YES: bool = true;
        }
        (Axum::<$listener>::YES, Baiwan::<$listener>::YES)
    }};
}

twice! {
    runtimes;
    a_task_that_reads_on_when_the_answer_is_sent of runtimes;
    a_handler_that_takes_its_time_when_its_client_has_left of runtimes;
    listeners_of_ones_own of hello;
}

fn runtimes(stage: &mut Stage) {
    let flavor = stage.connect().ask_unrecorded("GET", "/flavor", "", b"").text().to_owned();
    stage.differs(RUNTIMES, flavor, "MultiThread".to_owned(), "CurrentThread".to_owned());
    stage.get("/spawned").expect(200).says("spawned");
    stage.get("/blocking").expect(200).says("blocking");
    stage.get("/local").expect(200).says("one other");
    let status = stage.connect().ask_unrecorded("GET", "/in-place", "", b"").status();
    stage.differs(BLOCK_IN_PLACE, status, 200, 500);
}

fn a_task_that_reads_on_when_the_answer_is_sent(stage: &mut Stage) {
    let mut client = stage.connect();
    client.send("POST /read-on HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nfirst");
    client.answer_to("POST").expect(200);
    // Hyper notices the end of the body when the next request comes.
    client.send("laterGET /flavor HTTP/1.1\r\nHost: test\r\n\r\n");
    assert!(client.is_answered());
    let ended = stage.connect().ask_unrecorded("GET", "/ended", "", b"").text().to_owned();
    stage.differs(LATE_READER, ended, "the end of the body".to_owned(), "an error".to_owned());
}

fn a_handler_that_takes_its_time_when_its_client_has_left(stage: &mut Stage) {
    let mut client = stage.connect();
    client.send("POST /undo HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nfirst");
    client.shut();
    let ended = stage.connect().ask_unrecorded("GET", "/ended", "", b"").text().to_owned();
    stage.differs(UNDOING, ended, "done".to_owned(), "dropped".to_owned());
}

fn listeners_of_ones_own(stage: &mut Stage) {
    type Tapped = axum::serve::TapIo<tokio::net::TcpListener, fn(&mut tokio::net::TcpStream)>;
    let (axum, baiwan) = listens!(Tapped);
    stage.differs(LISTENERS, if stage.server == Server::Axum { axum } else { baiwan }, true, false);
    assert_eq!(listens!(tokio::net::TcpListener), (true, true));
    assert_eq!(listens!(tokio::net::UnixListener), (true, true));
}
