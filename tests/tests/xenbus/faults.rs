//! The xenstore client while xenstored is slow, gone, or says no.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use xenbus::wire::{Decoder, Message, Op};
use xenbus::{Endpoint, Errno, State, Store, StoreError, Switched, TRIES, switch_state};

use crate::support::{DISK, Machine, SOON, TempDir, attach};

const SHORT: Duration = Duration::from_millis(200);

#[test]
fn con_07_a_stalled_xenstored_delays_a_call_by_its_patience_and_no_more() {
    let mut machine = Machine::new();
    let mut store = machine.dom0();
    store.set_patience(SHORT);
    machine.control.stall(Duration::from_secs(60)).unwrap();
    let start = Instant::now();
    assert_eq!(store.read("/tool"), Err(StoreError::Timeout(SHORT)));
    assert!(start.elapsed() >= SHORT && start.elapsed() < Duration::from_secs(5));
    let start = Instant::now();
    assert_eq!(
        store.read("/tool"),
        Err(StoreError::Lost),
        "given up, at once"
    );
    assert!(
        store.reconnect().is_ok(),
        "the backlog takes us, and there is nothing to register"
    );
    assert_eq!(store.read("/tool"), Err(StoreError::Timeout(SHORT)));
    assert!(start.elapsed() < Duration::from_secs(5));
    machine.control.stall(Duration::ZERO).unwrap();
    store.set_patience(SOON);
    store.reconnect().unwrap();
    assert_eq!(store.read("/tool"), Ok(Some(vec![])));
}

#[test]
fn con_07_watches_survive_a_lost_connection() {
    let mut machine = Machine::new();
    let mut store = machine.dom0();
    for token in ["a", "b"] {
        store.watch("/tool/watched", token).unwrap();
        store.wait_event(SOON).unwrap().unwrap();
    }
    machine.control.hang_up().unwrap();
    assert_eq!(store.wait_event(SOON), Err(StoreError::Lost));
    assert!(!store.is_connected() && store.fd().is_none());
    machine.dom0().write("/tool/watched", "missed").unwrap();
    store.reconnect().unwrap();
    let mut tokens = [(); 2].map(|()| store.wait_event(SOON).unwrap().unwrap().token);
    tokens.sort();
    assert_eq!(
        tokens,
        ["a", "b"],
        "each fires once: what was missed is read again"
    );
    machine.dom0().write("/tool/watched", "seen").unwrap();
    assert!(store.wait_event(SOON).unwrap().is_some());
}

#[test]
fn con_07_a_connection_lost_in_a_transaction_writes_nothing() {
    let mut machine = Machine::new();
    let mut store = machine.dom0();
    let control = &mut machine.control;
    let outcome = store.transaction(|tx| {
        tx.write("/tool/half", "")?;
        control.hang_up().unwrap();
        Ok::<_, StoreError>(())
    });
    assert_eq!(outcome, Err(StoreError::Lost));
    store.reconnect().unwrap();
    assert_eq!(store.read("/tool/half"), Ok(None));
}

#[test]
fn con_07_a_full_store_is_told_and_nothing_is_written() {
    let mut machine = Machine::new();
    let mut store = machine.dom0();
    attach(&mut store, &DISK);
    machine
        .control
        .refuse(Op::Write, &Errno::NoSpace, 1)
        .unwrap();
    let refused = switch_state(&mut store, &DISK, State::InitWait).unwrap_err();
    assert_eq!(refused.errno(), Some(&Errno::NoSpace));
    assert!(!refused.is_disconnect());
    assert_eq!(
        refused.to_string(),
        "Write /local/domain/0/backend/vbd/7/51712/state: ENOSPC"
    );
    assert_eq!(store.read(&DISK.key("state")), Ok(Some(b"1".to_vec())));
    assert_eq!(
        switch_state(&mut store, &DISK, State::InitWait),
        Ok(Switched::Written)
    );
}

#[test]
fn sto_02_conflicts_are_retried_a_few_times_with_pauses() {
    let mut machine = Machine::new();
    let mut store = machine.dom0();
    attach(&mut store, &DISK);
    let again = Errno::Again;
    machine
        .control
        .refuse(Op::TransactionEnd, &again, TRIES - 1)
        .unwrap();
    assert_eq!(
        switch_state(&mut store, &DISK, State::InitWait),
        Ok(Switched::Written)
    );
    machine
        .control
        .refuse(Op::TransactionEnd, &again, TRIES)
        .unwrap();
    let start = Instant::now();
    let outcome = switch_state(&mut store, &DISK, State::Closing);
    assert_eq!(outcome, Err(StoreError::Contended(TRIES)));
    assert!(
        start.elapsed() >= Duration::from_millis(100),
        "did not back off"
    );
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(store.read(&DISK.key("state")), Ok(Some(b"2".to_vec())));
}

#[test]
fn an_unknown_errno_keeps_its_name() {
    let mut machine = Machine::new();
    let mut store = machine.dom0();
    machine
        .control
        .refuse(Op::Read, &Errno::Other("EDQUOT".to_owned()), 1)
        .unwrap();
    let refused = store.read("/tool").unwrap_err();
    assert_eq!(refused.to_string(), "Read /tool: EDQUOT");
}

#[test]
fn nobody_there_is_told_with_the_path() {
    let dir = TempDir::new();
    let path = dir.path().join("none");
    let error = Store::connect(Endpoint::Socket(path.clone())).unwrap_err();
    assert!(error.is_disconnect());
    let text = error.to_string();
    assert!(
        text.contains(path.to_str().unwrap()) && text.contains("is xenstored running?"),
        "{text}"
    );
}

/// A peer that answers every request with the same bytes.
fn liar(answer: Vec<u8>) -> (TempDir, Store) {
    peer(move |mut stream| {
        let mut request = [0; 4096];
        while stream.read(&mut request).is_ok_and(|bytes| bytes > 0) {
            if stream.write_all(&answer).is_err() {
                return;
            }
        }
    })
}

fn encoded(op: Op, request: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![];
    let message = Message {
        op,
        request,
        transaction: 0,
        payload: payload.to_vec(),
    };
    message.encode(4096, &mut bytes).unwrap();
    bytes
}

#[test]
fn sto_01_a_peer_that_speaks_nonsense_is_given_up() {
    let huge = [2_u32, 1, 0, u32::MAX].map(u32::to_le_bytes).concat();
    let answers = [
        huge,
        vec![0xff; 64],
        encoded(Op::Read, 77, b"not asked for"),
        encoded(Op::Directory, 1, b"another question"),
        encoded(Op::WatchEvent, 0, b"no token"),
    ];
    for answer in answers {
        let (_dir, mut store) = liar(answer.clone());
        let outcome = store.read("/tool");
        assert!(
            matches!(outcome, Err(StoreError::Protocol(_))),
            "{answer:?}: {outcome:?}"
        );
        assert!(!store.is_connected());
    }
    let (_dir, mut store) = liar(encoded(Op::Read, 1, b"fine")[..10].to_vec());
    assert_eq!(
        store.read("/tool"),
        Err(StoreError::Timeout(SHORT)),
        "half an answer"
    );
    let (_dir, mut store) = liar(encoded(Op::Read, 1, b"fine"));
    assert_eq!(store.read("/tool"), Ok(Some(b"fine".to_vec())));
}

/// A peer that is given by what it does with its connection.
fn peer(act: impl FnOnce(UnixStream) + Send + 'static) -> (TempDir, Store) {
    let dir = TempDir::new();
    let path = dir.path().join("peer");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || act(listener.accept().unwrap().0));
    let mut store = Store::connect(Endpoint::Socket(path)).unwrap();
    store.set_patience(SHORT);
    (dir, store)
}

#[test]
fn answers_are_matched_by_their_number_whatever_comes_between() {
    let (_dir, mut store) = peer(|mut stream| {
        let (mut decoder, mut asked) = (Decoder::default(), vec![]);
        let mut bytes = [0; 4096];
        while asked.len() < 3 {
            let taken = stream.read(&mut bytes).unwrap();
            decoder.feed(&bytes[..taken]);
            while let Some(message) = decoder.next_message().unwrap() {
                asked.push(message);
            }
        }
        for message in asked.iter().rev() {
            stream
                .write_all(&encoded(Op::WatchEvent, 0, b"/strange\0token\0"))
                .unwrap();
            let answer = encoded(Op::Read, message.request, &message.payload);
            for portion in answer.chunks(5) {
                stream.write_all(portion).unwrap();
            }
        }
    });
    let values = store.read_many(&["/a", "/b", "/c"]).unwrap();
    let paths = [b"/a\0", b"/b\0", b"/c\0"].map(|path| Some(path.to_vec()));
    assert_eq!(values, paths);
    assert_eq!(store.next_event(), None, "nobody watches /strange");
}

#[test]
fn con_05_a_peer_that_talks_but_never_answers_is_given_up() {
    let (_dir, mut store) = peer(|mut stream| {
        let event = encoded(Op::WatchEvent, 0, b"/watched\0token\0").repeat(100);
        while stream.write_all(&event).is_ok() {}
    });
    let start = Instant::now();
    assert_eq!(store.read("/tool"), Err(StoreError::Timeout(SHORT)));
    assert!(start.elapsed() < Duration::from_secs(5));
}
