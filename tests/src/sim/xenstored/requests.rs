//! From messages to operations, and their answers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use ring_proto::DomId;
use xenbus::Errno;
use xenbus::wire::{self, Message, Op, PAYLOAD_MAX};

use super::access;
use super::change::Change;
use super::events;
use super::faults::Faults;
use super::graves::Graves;
use super::nodes::{allowed, look};
use super::session::{Session, Watch};
use super::transaction::Transaction;
use super::tree::Tree;

/// Everything the server knows.
#[derive(Debug)]
pub(super) struct Xenstore {
    tree: Tree,
    generation: u64,
    graves: Graves,
    violations: Vec<String>,
    pub(super) faults: Faults,
    /// Introduced and not released.
    pub(super) domains: BTreeSet<DomId>,
    pub(super) sessions: BTreeMap<u64, Session>,
}

pub(super) type Answer = Result<Vec<u8>, Errno>;

const DOMAIN_0: DomId = DomId::new(0);

impl Xenstore {
    pub(super) fn new() -> Self {
        Self {
            tree: Tree::new(),
            generation: 0,
            graves: Graves::default(),
            violations: vec![],
            faults: Faults::default(),
            domains: [DOMAIN_0].into(),
            sessions: BTreeMap::new(),
        }
    }

    pub(super) fn violation(&mut self, line: String) {
        self.violations.push(line);
    }

    /// Executes a request and queues its answer.
    pub(super) fn serve(&mut self, id: u64, message: &Message) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let (caller, controls) = (
            session.domain,
            session.controls || message.op == Op::Control,
        );
        session.controls = controls && caller == DOMAIN_0;
        let refused = if controls {
            None
        } else {
            self.faults.refusal(message.op)
        };
        let outcome = match refused {
            Some(errno) => {
                self.forget_transaction(id, message);
                Err(errno)
            }
            None => self.execute(id, caller, message),
        };
        let (op, payload) = match outcome {
            Ok(payload) if payload.len() <= PAYLOAD_MAX => (message.op, payload),
            Ok(_) => (Op::Error, error(&Errno::TooBig)),
            Err(errno) => (Op::Error, error(&errno)),
        };
        let Message {
            request,
            transaction,
            ..
        } = *message;
        if let Some(session) = self.sessions.get_mut(&id) {
            session.send(&Message {
                op,
                request,
                transaction,
                payload,
            });
        }
    }

    /// A transaction whose end is refused is over nevertheless.
    fn forget_transaction(&mut self, id: u64, message: &Message) {
        if let (Op::TransactionEnd, Some(session)) = (message.op, self.sessions.get_mut(&id)) {
            session.transactions.remove(&message.transaction);
        }
    }

    fn execute(&mut self, id: u64, caller: DomId, message: &Message) -> Answer {
        match message.op {
            Op::Control => self.control(caller, &message.payload),
            Op::Introduce => self.introduce(caller, &message.payload),
            Op::Release => self.release(caller, &message.payload),
            Op::IsDomainIntroduced => {
                let known = self.domains.contains(&domain(&message.payload)?);
                Ok(if known { b"T\0" } else { b"F\0" }.to_vec())
            }
            Op::DomainPath => {
                Ok(format!("/local/domain/{}\0", domain(&message.payload)?).into_bytes())
            }
            Op::Watch => self.watch(id, caller, &message.payload),
            Op::Unwatch => self.unwatch(id, caller, &message.payload),
            Op::ResetWatches => {
                let session = self.sessions.get_mut(&id).ok_or(Errno::Io)?;
                session.watches.clear();
                session.transactions.clear();
                ok()
            }
            Op::TransactionStart => self.transaction_start(id, caller),
            Op::TransactionEnd => self.transaction_end(id, caller, message),
            Op::Read | Op::Directory | Op::DirectoryPart | Op::Permissions => {
                let (path, rest) = split(&message.payload)?;
                let path = access::resolve(caller, path)?;
                look(
                    self.view(id, message.transaction, &path)?,
                    caller,
                    message.op,
                    &path,
                    rest,
                )
            }
            Op::Write | Op::Mkdir | Op::Remove | Op::SetPermissions => {
                self.change(id, caller, message)
            }
            _ => Err(Errno::NotImplemented),
        }
    }

    /// The tree as it is, or as a transaction sees it.
    fn view(&mut self, id: u64, transaction: u32, path: &str) -> Result<&Tree, Errno> {
        if transaction == 0 {
            return Ok(&self.tree);
        }
        Ok(self.transaction(id, transaction)?.look(path))
    }

    fn transaction(&mut self, id: u64, transaction: u32) -> Result<&mut Transaction, Errno> {
        let session = self.sessions.get_mut(&id).ok_or(Errno::Io)?;
        session
            .transactions
            .get_mut(&transaction)
            .ok_or(Errno::NoEntry)
    }

    fn change(&mut self, id: u64, caller: DomId, message: &Message) -> Answer {
        let (path, rest) = split(&message.payload)?;
        let path = access::resolve(caller, path)?;
        let tree = self.view(id, message.transaction, &path)?;
        let change = allowed(tree, caller, message.op, path, rest)?;
        if message.transaction == 0 {
            self.apply(&[change], caller);
        } else {
            self.transaction(id, message.transaction)?
                .put_aside(change, caller);
        }
        ok()
    }

    fn apply(&mut self, changes: &[Change], caller: DomId) {
        self.generation += 1;
        let mut changed = vec![];
        for change in changes {
            changed.extend(change.apply(&mut self.tree, caller, self.generation));
        }
        let found = self.graves.after(&changed, &self.tree);
        self.violations.extend(found);
        events::fire(&changed, &self.tree, &mut self.sessions);
    }

    fn transaction_start(&mut self, id: u64, caller: DomId) -> Answer {
        let session = self.sessions.get_mut(&id).ok_or(Errno::Io)?;
        if caller != DOMAIN_0 && session.transactions.len() >= access::TRANSACTIONS {
            return Err(Errno::NoSpace);
        }
        session.last_transaction += 1;
        let number = session.last_transaction;
        session
            .transactions
            .insert(number, Transaction::open(&self.tree));
        Ok(format!("{number}\0").into_bytes())
    }

    fn transaction_end(&mut self, id: u64, caller: DomId, message: &Message) -> Answer {
        let session = self.sessions.get_mut(&id).ok_or(Errno::Io)?;
        let transaction = session.transactions.remove(&message.transaction);
        let transaction = transaction.ok_or(Errno::NoEntry)?;
        match message.payload.as_slice() {
            b"F\0" => ok(),
            b"T\0" => {
                let changes = transaction.commit(&self.tree).ok_or(Errno::Again)?;
                self.apply(&changes, caller);
                ok()
            }
            _ => Err(Errno::Invalid),
        }
    }

    fn watch(&mut self, id: u64, caller: DomId, payload: &[u8]) -> Answer {
        let watch = parse_watch(caller, payload)?;
        let session = self.sessions.get_mut(&id).ok_or(Errno::Io)?;
        if watch.path.starts_with('@') && caller != DOMAIN_0 {
            return Err(Errno::Access);
        }
        if session.watches.contains(&watch) {
            return Err(Errno::Exists);
        }
        if caller != DOMAIN_0 && session.watches.len() >= access::WATCHES {
            return Err(Errno::TooBig);
        }
        session.watches.push(watch.clone());
        // Once at once, so that whoever comes late misses nothing.
        session.tell(&watch, &watch.path);
        ok()
    }

    fn unwatch(&mut self, id: u64, caller: DomId, payload: &[u8]) -> Answer {
        let watch = parse_watch(caller, payload)?;
        let session = self.sessions.get_mut(&id).ok_or(Errno::Io)?;
        let before = session.watches.len();
        session.watches.retain(|other| *other != watch);
        if session.watches.len() < before {
            ok()
        } else {
            Err(Errno::NoEntry)
        }
    }

    fn introduce(&mut self, caller: DomId, payload: &[u8]) -> Answer {
        privileged(caller)?;
        self.domains.insert(domain(payload)?);
        events::fire_special("@introduceDomain", &mut self.sessions);
        ok()
    }

    fn release(&mut self, caller: DomId, payload: &[u8]) -> Answer {
        privileged(caller)?;
        let domain = domain(payload)?;
        if domain == DOMAIN_0 || !self.domains.remove(&domain) {
            return Err(Errno::NoEntry);
        }
        events::fire_special("@releaseDomain", &mut self.sessions);
        ok()
    }

    fn control(&mut self, caller: DomId, payload: &[u8]) -> Answer {
        privileged(caller)?;
        let words: Result<Vec<&str>, _> = wire::strings(payload).map(std::str::from_utf8).collect();
        let words = words.map_err(|_| Errno::Invalid)?;
        if words == ["violations"] {
            let mut lines = self.violations.join("\n").into_bytes();
            lines.truncate(4000);
            return Ok(lines);
        }
        if self.faults.order(&words, Instant::now()) {
            ok()
        } else {
            Err(Errno::Invalid)
        }
    }
}

fn parse_watch(caller: DomId, payload: &[u8]) -> Result<Watch, Errno> {
    let (path, rest) = split(payload)?;
    let token = rest.strip_suffix(b"\0").ok_or(Errno::Invalid)?.to_vec();
    if token.contains(&0) {
        return Err(Errno::Invalid);
    }
    if path == b"@introduceDomain" || path == b"@releaseDomain" {
        let path = String::from_utf8_lossy(path).into_owned();
        return Ok(Watch {
            path,
            token,
            relative: false,
        });
    }
    let relative = !path.starts_with(b"/");
    Ok(Watch {
        path: access::resolve(caller, path)?,
        token,
        relative,
    })
}

fn split(payload: &[u8]) -> Result<(&[u8], &[u8]), Errno> {
    let end = payload
        .iter()
        .position(|byte| *byte == 0)
        .ok_or(Errno::Invalid)?;
    let (path, rest) = payload.split_at(end);
    Ok((path, rest.get(1..).unwrap_or_default()))
}

fn domain(payload: &[u8]) -> Result<DomId, Errno> {
    let (text, _) = split(payload)?;
    let value = xenbus::decimal(text, u32::from(xenbus::DOMID_MAX)).map_err(|_| Errno::Invalid)?;
    u16::try_from(value)
        .map(DomId::new)
        .map_err(|_| Errno::Invalid)
}

fn privileged(caller: DomId) -> Result<(), Errno> {
    if caller == DOMAIN_0 {
        Ok(())
    } else {
        Err(Errno::Access)
    }
}

fn ok() -> Answer {
    Ok(b"OK\0".to_vec())
}

fn error(errno: &Errno) -> Vec<u8> {
    format!("{errno}\0").into_bytes()
}
