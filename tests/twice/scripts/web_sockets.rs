//! WebSockets, through a client that is not ours.

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::comparison::twice;
use crate::differences::{UPGRADE_DECLINED, WEB_SOCKET_WITH_BODY};
use crate::stage::Stage;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Opens a WebSocket and writes down how it was answered.
fn open(stage: &Stage, path: &str, protocols: Option<&str>) -> Socket {
    let mut request = format!("ws://{}{path}", stage.address).into_client_request().unwrap();
    if let Some(protocols) = protocols {
        request.headers_mut().insert("sec-websocket-protocol", protocols.parse().unwrap());
    }
    let (socket, response) = stage.block_on(tokio_tungstenite::connect_async(request)).unwrap();
    let mut fields: Vec<_> = response.headers().iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
    // The one is another each time.
    fields.retain(|field| !field.starts_with("sec-websocket-accept") && !field.starts_with("date"));
    fields.sort();
    stage.note(format!("{path}: {} {fields:?}", response.status()));
    socket
}

fn say(stage: &Stage, socket: &mut Socket, message: impl Into<Message>) {
    stage.block_on(socket.send(message.into())).unwrap();
}

/// Waits for the next message and writes it down.
fn hear(stage: &Stage, socket: &mut Socket) -> Option<Message> {
    let message = match stage.block_on(socket.next()) {
        Some(Err(Error::ConnectionClosed)) | None => None,
        Some(message) => Some(message.unwrap()),
    };
    match &message {
        Some(message) if message.len() > 1000 => stage.note(format!("{} bytes", message.len())),
        message => stage.note(format!("{message:?}")),
    }
    message
}

const HANDSHAKE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";

const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

twice! {
    sockets;
    handshakes of sockets;
    chat;
}

fn sockets(stage: &mut Stage) {
    let mut socket = open(stage, "/echo", None);
    for message in [Message::from("text"), Message::from(vec![0, 159, 146, 150]), Message::from("x".repeat(200_000))] {
        say(stage, &mut socket, message.clone());
        assert_eq!(hear(stage, &mut socket), Some(message));
    }
    say(stage, &mut socket, Message::Ping(b"are you there"[..].into()));
    assert_eq!(hear(stage, &mut socket), Some(Message::Pong(b"are you there"[..].into())));
    stage.block_on(socket.close(None)).unwrap();
    while hear(stage, &mut socket).is_some() {}

    for protocols in [None, Some("chat.v2, graphql-ws")] {
        let mut socket = open(stage, "/protocol", protocols);
        hear(stage, &mut socket);
    }

    let mut socket = open(stage, "/closes", None);
    say(stage, &mut socket, "enough?");
    assert!(matches!(hear(stage, &mut socket), Some(Message::Close(Some(_)))));
    assert_eq!(hear(stage, &mut socket), None);

    // What is not a handshake is answered as usual.
    stage.get("/echo").expect(400);
    let other_version = HANDSHAKE.replace("13", "12");
    for fields in [HANDSHAKE, &format!("{other_version}{KEY}")] {
        let answer = stage.connect().ask_unrecorded("GET", "/echo", fields, b"").expect(400);
        stage.differs_in(UPGRADE_DECLINED, &answer, "connection", None, Some("close"));
    }
    let answer = stage.connect().ask_unrecorded("GET", "/plain", &format!("{HANDSHAKE}{KEY}"), b"").expect(200);
    stage.differs_in(UPGRADE_DECLINED, &answer, "connection", None, Some("close"));
    stage.get("/plain").expect(200);
}

fn handshakes(stage: &mut Stage) {
    // The example of RFC 6455, section 1.3, and a subprotocol that nobody knows.
    let mut client = stage.connect();
    let fields = format!("{HANDSHAKE}{KEY}Sec-WebSocket-Protocol: unknown\r\n");
    client.send_request("GET", "/protocol", &fields, b"");
    let head = client.head().expect(101);
    assert_eq!(head.field("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    // A frame of text comes behind it: `None`.
    assert_eq!(client.bytes(6), b"\x81\x04None");
    client.expect_end();
    let mut client = stage.connect();
    client.send_request("GET", "/echo", &format!("{HANDSHAKE}{KEY}"), b"body");
    let status = client.read_head().status();
    stage.differs(WEB_SOCKET_WITH_BODY, status, 101, 400);
}

fn chat(stage: &mut Stage) {
    let mut ann = open(stage, "/socket", None);
    say(stage, &mut ann, "ann");
    assert_eq!(hear(stage, &mut ann), Some("ann joined.".into()));
    let mut bob = open(stage, "/socket", None);
    say(stage, &mut bob, "bob");
    for socket in [&mut ann, &mut bob] {
        assert_eq!(hear(stage, socket), Some("bob joined.".into()));
    }
    let mut other = open(stage, "/socket", None);
    say(stage, &mut other, "bob");
    assert_eq!(hear(stage, &mut other), Some("Username already taken.".into()));
    for number in 0..5 {
        say(stage, &mut bob, format!("message {number}"));
    }
    for _ in 0..5 {
        hear(stage, &mut ann);
    }
    stage.get("/").expect(200);
    drop(bob);
    assert_eq!(hear(stage, &mut ann), Some("bob left.".into()));
}
