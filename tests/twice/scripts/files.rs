//! Files, and another server behind this one.

use crate::comparison::twice;
use crate::stage::Stage;

twice! {
    static_files;
    proxy;
}

fn static_files(stage: &mut Stage) {
    let mut client = stage.connect();
    client.get("/api").expect(200);
    for path in ["/", "/index.html", "/script.js", "/digits.txt", "/large.bin", "/inner/", "/one", "/assets/digits.txt"]
    {
        client.get(path).expect(200);
        client.ask("HEAD", path, "", "").expect(200);
    }
    client.get("/inner").expect(307);
    client.get("/assets/none").expect(404).says("no such file");
    client.get("/any/page").expect(200).says("<h1>Index</h1>");
    client.get("/assets/../api");
    client.get("/assets/%2e%2e/secret");
    client.ask("POST", "/digits.txt", "", "x").expect(405);
    for range in ["bytes=0-9", "bytes=90-", "bytes=-5", "bytes=0-0,5-9", "bytes=200-", "bytes=5-2", "lines=1-2"] {
        client.ask("GET", "/digits.txt", &format!("Range: {range}\r\n"), "");
        client.ask("HEAD", "/digits.txt", &format!("Range: {range}\r\n"), "");
    }
    client.ask("GET", "/large.bin", "Range: bytes=1000-200999\r\n", "").expect(206);
    let answer = client.get("/digits.txt");
    let since = format!("If-Modified-Since: {}\r\n", answer.field("last-modified").unwrap());
    client.ask("GET", "/digits.txt", &since, "").expect(304);
    client.ask("GET", "/digits.txt", "If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n", "").expect(412);
}

fn proxy(stage: &mut Stage) {
    let answer = stage.get("/hello/ann").expect(200).says("hello ann");
    assert_eq!((answer.field("x-origin"), answer.field("via")), (Some("yes"), Some("1.1 test")));
    stage.post("/sum", "", "abc").expect(200).says("294");
    stage.post("/sum", "", vec![1; 150_000]).expect(200).says("150000");
    assert_eq!(stage.get("/long").expect(200).body.len(), 200_000);
    stage.get("/missing").expect(410);
    stage.get("/none").expect(404);
    let back = stage.second;
    stage.connect_to(back).get("/hello/bob").expect(200);
}
