//! The socket in an event loop, with clients of every kind. Time is an argument: nothing waits.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use serde_json::json;

use super::*;

const FIRST: usize = 2;

/// A broker that answers every request with what its arguments are.
struct Server {
    dir: PathBuf,
    poll: Poll,
    events: Events,
    control: Control,
    now: Instant,
    answered: u32,
}

impl Server {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("control-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).unwrap();
        let poll = Poll::new().unwrap();
        let registry = poll.registry().try_clone().unwrap();
        let now = Instant::now();
        Self {
            control: Control::listen(&dir, "test", registry, FIRST, now).unwrap(),
            dir,
            poll,
            events: Events::with_capacity(64),
            now,
            answered: 0,
        }
    }

    fn path(&self) -> PathBuf {
        socket(&self.dir, "test")
    }

    /// One turn of the event loop; false when there was nothing to do.
    fn turn(&mut self) -> bool {
        self.control.tidy(self.now);
        let none = Some(Duration::ZERO);
        self.poll.poll(&mut self.events, none).unwrap();
        let tokens: Vec<Token> = self.events.iter().map(mio::event::Event::token).collect();
        for token in &tokens {
            assert!(self.control.owns(*token));
            if let Some(asked) = self.control.wake(*token, self.now) {
                let reply = Reply::Ok(asked.request.arguments.clone());
                self.control.reply(&asked, &reply, self.now);
                self.answered += 1;
            }
        }
        !tokens.is_empty()
    }

    /// As many turns as there is something to do, which must not be for ever.
    fn settle(&mut self) -> usize {
        let turns = (0..100_000).take_while(|_| self.turn()).count();
        assert!(turns < 100_000, "it is kept busy for ever");
        turns
    }

    fn later(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.path()).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// What has come so far, and whether more can.
fn heard(stream: &mut UnixStream) -> (String, bool) {
    let mut text = Vec::new();
    let mut step = [0; 4096];
    loop {
        match stream.read(&mut step) {
            Ok(0) => return (String::from_utf8(text).unwrap(), false),
            Ok(bytes) => text.extend_from_slice(&step[..bytes]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return (String::from_utf8(text).unwrap(), true);
            }
            // It was let go while it still had something to say.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                return (String::from_utf8(text).unwrap(), false);
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn line(arguments: Value) -> Vec<u8> {
    let mut line = serde_json::to_vec(&Request::with("say", arguments)).unwrap();
    line.push(b'\n');
    line
}

#[test]
fn a_line_gets_a_line_however_lines_come() {
    let mut server = Server::new("lines");
    let mut client = server.connect();
    let three = [line(json!(1)), line(json!("two")), line(json!([3]))].concat();
    // All at once, then byte by byte.
    client.write_all(&three).unwrap();
    server.settle();
    let answers = "{\"ok\":1}\n{\"ok\":\"two\"}\n{\"ok\":[3]}\n";
    assert_eq!(heard(&mut client), (answers.to_owned(), true));
    for byte in &three {
        client.write_all(&[*byte]).unwrap();
        server.settle();
    }
    assert_eq!(heard(&mut client), (answers.to_owned(), true));
    // Who says no more is answered still.
    client.write_all(&three).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    server.settle();
    assert_eq!(heard(&mut client), (answers.to_owned(), false));
}

#[test]
fn what_is_no_request_is_told_and_not_listened_to() {
    let mut server = Server::new("garbage");
    for garbage in [
        &b"\n"[..],
        b"hello\n{\"command\":\"say\"}\n",
        b"{\"command\":1}\n",
        b"{\"command\":\"say\",\"more\":1}\n",
        b"\xff\xfe\n",
        &[b'['; 5000],
    ] {
        let mut client = server.connect();
        client.write_all(garbage).unwrap();
        client.write_all(b"\n").unwrap();
        server.settle();
        let (told, open) = heard(&mut client);
        assert!(told.starts_with("{\"error\":\"no request: "), "{told}");
        assert_eq!((told.lines().count(), open), (1, false), "{told}");
    }
    assert_eq!(server.answered, 0);
}

#[test]
fn a_line_without_end_is_cut_off() {
    let mut server = Server::new("long");
    let mut client = server.connect();
    let mut written = 0;
    while let Ok(bytes) = client.write(&[b' '; 4096]) {
        written += bytes;
        server.settle();
        assert!(written < 2 * LINE_MAX, "it is read without end");
    }
    assert!(written >= LINE_MAX);
    let (told, open) = heard(&mut client);
    assert_eq!(
        (told.as_str(), open),
        ("{\"error\":\"a line of more than 65536 bytes\"}\n", false)
    );
}

#[test]
fn who_takes_too_long_is_let_go_and_nobody_waits_for_him() {
    let mut server = Server::new("slow");
    let (mut silent, mut slow, mut good) = (server.connect(), server.connect(), server.connect());
    slow.write_all(b"{\"comm").unwrap();
    good.write_all(&line(json!(1))).unwrap();
    server.settle();
    assert_eq!(heard(&mut good).0, "{\"ok\":1}\n");
    server.later(9);
    slow.write_all(b"and").unwrap();
    good.write_all(&line(json!(2))).unwrap();
    server.settle();
    assert_eq!(
        server.control.next_deadline(),
        Some(server.now + Duration::from_secs(1))
    );
    server.later(2);
    server.settle();
    assert_eq!(heard(&mut silent), (String::new(), false));
    assert_eq!(heard(&mut slow), (String::new(), false));
    assert_eq!(heard(&mut good), ("{\"ok\":2}\n".to_owned(), true));
    server.later(20);
    server.settle();
    assert!(!heard(&mut good).1);
    assert_eq!(server.control.next_deadline(), None);
}

#[test]
fn who_does_not_listen_is_not_heard() {
    let mut server = Server::new("deaf");
    let (mut deaf, mut good) = (server.connect(), server.connect());
    let long = line(json!("x".repeat(60_000)));
    let mut sent = 0;
    while sent < 100 {
        match deaf.write(&long) {
            Ok(bytes) if bytes == long.len() => sent += 1,
            _ => break,
        }
        server.settle();
    }
    assert!(server.answered < 50, "answers pile up");
    good.write_all(&line(json!(1))).unwrap();
    server.settle();
    assert_eq!(heard(&mut good).0, "{\"ok\":1}\n");
    server.later(11);
    server.settle();
    assert!(!heard(&mut deaf).1, "it is kept");
}

#[test]
fn a_crowd_is_not_let_in_and_does_not_keep_the_broker() {
    let mut server = Server::new("crowd");
    let mut crowd = Vec::new();
    let come = |server: &mut Server, crowd: &mut Vec<_>| {
        for _ in 0..8 {
            crowd.push(server.connect());
        }
        server.settle()
    };
    for _ in 0..8 {
        let turns = come(&mut server, &mut crowd);
        assert!(turns < 16, "{turns} turns for 8 connections");
    }
    let kept = |crowd: &mut Vec<UnixStream>| {
        let open = crowd.iter_mut().map(|client| heard(client).1);
        open.filter(|open| *open).count()
    };
    // All were taken, and all but eight let go for others.
    assert_eq!(kept(&mut crowd), 8);
    // The next ones wait, and cost nothing meanwhile.
    come(&mut server, &mut crowd);
    assert_eq!(kept(&mut crowd), 16);
    assert_eq!(server.settle(), 0);
    assert!(server.control.next_deadline().unwrap() > server.now);
    server.later(1);
    server.settle();
    assert_eq!(kept(&mut crowd), 8);
    let mut good = server.connect();
    good.write_all(&line(json!(1))).unwrap();
    server.later(1);
    server.settle();
    assert_eq!(heard(&mut good).0, "{\"ok\":1}\n");
}

#[test]
fn requests_without_end_are_too_many() {
    let mut server = Server::new("many");
    let mut client = server.connect();
    let many = line(json!(1)).repeat(500);
    client.write_all(&many).unwrap();
    server.settle();
    let (told, open) = heard(&mut client);
    assert_eq!((server.answered, open), (64, false));
    assert!(
        told.ends_with("{\"ok\":1}\n{\"error\":\"too many requests: try again in a second\"}\n")
    );
    let mut good = server.connect();
    good.write_all(&line(json!(2))).unwrap();
    server.later(1);
    server.settle();
    assert_eq!(heard(&mut good).0, "{\"ok\":2}\n");
}

#[test]
fn the_socket_is_for_root_and_its_group_and_goes_with_the_broker() {
    let mut server = Server::new("file");
    let path = server.path();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o660);
    // One that a broker left that was killed.
    let registry = server.poll.registry().try_clone().unwrap();
    let left = std::os::unix::net::UnixListener::bind(server.dir.join("left.sock")).unwrap();
    drop(left);
    let mut second = Control::listen(&server.dir, "left", registry, 100, server.now).unwrap();
    let nobody = second.wake(Token(100), server.now);
    assert!(nobody.is_none());
    drop(second);
    assert!(!server.dir.join("left.sock").exists());
    let mut client = server.connect();
    client.write_all(&line(json!(1))).unwrap();
    server.settle();
    assert_eq!(heard(&mut client).0, "{\"ok\":1}\n");
}

#[test]
fn no_socket_is_told_with_its_place() {
    let dir = std::env::temp_dir().join("x".repeat(120));
    let poll = Poll::new().unwrap();
    let registry = poll.registry().try_clone().unwrap();
    let error = Control::listen(&dir, "test", registry, FIRST, Instant::now()).unwrap_err();
    let told = error.to_string();
    assert!(
        told.contains("test.sock") && told.contains("--run-dir"),
        "{told}"
    );
}

#[test]
fn the_client_asks_and_is_told() {
    let mut server = Server::new("ask");
    let path = server.path();
    let request = Request::with("say", json!({"a": 1}));
    let asked = std::thread::scope(|scope| {
        let asked = scope.spawn(|| ask(&path, &request));
        while server.answered == 0 {
            let limit = Some(Duration::from_secs(20));
            server.poll.poll(&mut server.events, limit).unwrap();
            let tokens: Vec<_> = server.events.iter().map(mio::event::Event::token).collect();
            assert!(!tokens.is_empty(), "nobody asks");
            for token in tokens {
                if let Some(asked) = server.control.wake(token, server.now) {
                    let reply = Reply::Ok(asked.request.arguments.clone());
                    server.control.reply(&asked, &reply, server.now);
                    server.answered += 1;
                }
            }
        }
        asked.join().unwrap()
    });
    assert_eq!(asked.unwrap(), json!({"a": 1}));
    drop(server);
    let error = ask(&path, &Request::new(STATUS)).unwrap_err();
    assert!(matches!(error, AskError::NotRunning { .. }), "{error}");
    assert!(error.to_string().contains("is it running"), "{error}");
}
