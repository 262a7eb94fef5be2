//! Bodies that come and go: their limits, streams of them, and large ones.

use crate::comparison::twice;
use crate::differences::TRAILERS;
use crate::stage::Stage;

const MULTIPART: &str = "Content-Type: multipart/form-data; boundary=XX\r\n";

fn form(bytes: usize) -> String {
    format!(
        "--XX\r\nContent-Disposition: form-data; name=\"text\"\r\n\r\nhello\r\n\
         --XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\nContent-Type: text/plain\r\n\r\n{}\r\n--XX--\r\n",
        "x".repeat(bytes)
    )
}

twice! {
    uploads;
    body_limits;
    echo;
    streamed;
    transfers;
}

fn uploads(stage: &mut Stage) {
    stage
        .post("/", MULTIPART, form(1000))
        .expect(200)
        .says("text None None: 5 bytes\nfile Some(\"a.txt\") Some(\"text/plain\"): 1000 bytes\n");
    stage.post("/", MULTIPART, "--XX\r\nContent-Disposition: form-data; name=\"text\"\r\n\r\nhel").expect(400);
    stage.post("/", "Content-Type: text/plain\r\n", form(1)).expect(400);
    stage.post("/small", MULTIPART, form(100)).expect(413);
    let sent = chunked(form(5000).as_bytes(), 700);
    let mut client = stage.connect();
    client.send(format!("POST / HTTP/1.1\r\nHost: test\r\n{MULTIPART}Transfer-Encoding: chunked\r\n\r\n"));
    client.send(sent);
    client.answer_to("POST").expect(200);
    client.ask("POST", "/", MULTIPART, form(3)).expect(200);
}

fn body_limits(stage: &mut Stage) {
    let megabyte_and_a_half = vec![b'x'; 1_500_000];
    stage.post("/default", "", &megabyte_and_a_half).expect(200).says("1500000");
    stage.post("/default", "", vec![b'x'; 2 << 20]).expect(200).says("2097152");
    stage.post("/default", "", vec![b'x'; (2 << 20) + 1]).expect(413);
    stage.post("/ten", "", "0123456789").expect(200);
    stage.post("/ten", "", "0123456789+").expect(413);
    stage.post("/off", "", &megabyte_and_a_half).expect(200).says("1500000");
    stage.post("/streamed", "", vec![b'x'; 100_000]).expect(200).says("100000");
    stage.post("/layer", "", "0123456789").expect(200);
    stage.post("/layer", "", "0123456789+").expect(413);
    for path in ["/ten", "/layer", "/layer/streamed"] {
        let mut client = stage.connect();
        client.send(format!("POST {path} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"));
        client.send(chunked(b"0123456789+", 4));
        client.answer_to("POST");
    }
}

fn echo(stage: &mut Stage) {
    let mut client = stage.connect();
    for path in ["/bytes", "/text", "/body", "/reversed", "/trailers", "/hint"] {
        for body in ["", "short", &"long ".repeat(1000)] {
            client.ask("POST", path, "", body).expect(200);
        }
        client.send(format!(
            "POST {path} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n"
        ));
        client.send("4;name=value\r\nfour\r\n3\r\n, f\r\n0\r\nX-Sum: 7\r\n\r\n");
        let mut answer = client.read_answer("POST").expect(200);
        if path == "/body" {
            let trailers = std::mem::take(&mut answer.trailers);
            stage.differs(TRAILERS, trailers, vec![], vec!["x-sum: 7".to_owned()]);
        }
        stage.note(answer.normalised());
    }
    goes_back_while_it_comes(stage);
}

fn streamed(stage: &mut Stage) {
    let mut client = stage.connect();
    client.send_request("GET", "/gated", "", b"");
    client.head().expect(200);
    // Each piece arrives before the next one is released.
    for piece in ["first,", "second,", "third"] {
        assert_eq!(client.text_of_chunks(piece.len()), piece);
        if piece != "third" {
            stage.connect().ask("POST", "/open", "", "").expect(200);
        }
    }
    assert!(client.chunk().is_none());
    assert_eq!(client.line(), "");
    for path in ["/known", "/empty", "/holes", "/many"] {
        client.get(path).expect(200);
        client.ask("HEAD", path, "", "").expect(200);
    }
    // HTTP/1.0 knows no chunks: the end of the connection is the end of the body.
    let mut old = stage.connect();
    old.send("GET /holes HTTP/1.0\r\n\r\n");
    let answer = old.read_answer("GET").expect(200).says("ab");
    assert_eq!((answer.field("content-length"), answer.field("transfer-encoding")), (None, None));
    fails_halfway(stage);
}

fn transfers(stage: &mut Stage) {
    for path in ["/whole", "/pieces"] {
        assert_eq!(stage.get(path).expect(200).body.len(), 8 << 20);
    }
    let upload: Vec<u8> = (0..1_300_000_u32).map(|number| (number % 241) as u8).collect();
    stage.post("/collected", "", &upload).expect(200);
    stage.ask("PUT", "/stored", "", &upload).expect(201);
    let mut client = stage.connect();
    client.send("PUT /stored HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send(chunked(&upload, 10_000));
    client.answer_to("PUT").expect(201);
    // An answer that comes before the upload.
    let mut client = stage.connect();
    client.send("POST /denied HTTP/1.1\r\nHost: test\r\nContent-Length: 40000\r\n\r\n");
    client.answer_to("POST").expect(401);
}

/// Cuts a body into chunks.
pub(crate) fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in body.chunks(size) {
        bytes.extend(format!("{:x}\r\n", piece.len()).as_bytes());
        bytes.extend(piece);
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"0\r\n\r\n");
    bytes
}

/// The first part of a body is back before the second is sent.
fn goes_back_while_it_comes(stage: &Stage) {
    let mut client = stage.connect();
    client.send("POST /body HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send("5\r\nfirst\r\n");
    client.head().expect(200);
    assert_eq!(client.text_of_chunks(5), "first");
    client.send("6\r\nsecond\r\n0\r\n\r\n");
    assert_eq!(client.text_of_chunks(6), "second");
    assert!(client.chunk().is_none());
}

/// What has been sent of an answer arrives, and then the connection is cut.
fn fails_halfway(stage: &Stage) {
    let mut client = stage.connect();
    client.send_request("GET", "/fails", "", b"");
    client.head().expect(200);
    client.text_of_chunks(15);
    stage.connect().ask("POST", "/open", "", "").expect(200);
    assert!(client.try_chunk().is_err());
    stage.note("the answer was cut");
}
