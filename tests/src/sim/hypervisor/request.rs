//! From words to operations and back.

use std::os::fd::OwnedFd;

use evtchn::sim::wire as evtchn_wire;
use gntdev::GrantStatus;
use gntdev::sim::wire as grant_wire;
use ring_proto::{DomId, GrantRef};
use rustix::io::Errno;

use super::datagram::Datagram;
use super::ports::{Ends, signal};
use super::state::{BACKEND, Hypervisor, Violation};
use super::wire;

/// The first domid that is no domain's (`DOMID_FIRST_RESERVED`).
const FIRST_RESERVED: u16 = 0x7ff0;

/// Whoever speaks: one connection is one open device.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) id: u64,
    /// The one domain whose ports it may bind, once it is restricted.
    restricted: Option<DomId>,
}

/// A refusal: an errno, and more words about it.
#[derive(Debug)]
struct Refusal(Errno, Vec<u32>);

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self(errno, Vec::new())
    }
}

type Outcome = Result<Datagram, Refusal>;

impl Caller {
    pub(super) const fn new(id: u64) -> Self {
        Self {
            id,
            restricted: None,
        }
    }

    /// Carries out one request; the answer, unless it is of the kind that has none.
    pub(super) fn serve(&mut self, machine: &mut Hypervisor, request: &[u32]) -> Option<Datagram> {
        let outcome = match request {
            [evtchn_wire::STRAY_UNMASK, port] => {
                machine.blame(Violation::StrayUnmask { port: *port });
                return None;
            }
            [grant_wire::BYE] => {
                self.part(machine);
                return None;
            }
            [operation @ 0x100..0x200, rest @ ..] => self.events(machine, *operation, rest),
            [operation @ 0x200..0x300, rest @ ..] => self.grants(machine, *operation, rest),
            [operation, rest @ ..] => toolstack(machine, *operation, rest),
            [] => Err(Errno::INVAL.into()),
        };
        Some(outcome.unwrap_or_else(|Refusal(errno, more)| {
            let mut words = vec![errno.raw_os_error().unsigned_abs()];
            words.extend(more);
            Datagram {
                words,
                fds: Vec::new(),
            }
        }))
    }

    /// The connection is over: everything that it holds is given back.
    pub(super) fn hang_up(&self, machine: &mut Hypervisor) {
        machine.ports.close_owner(self.id);
        for (token, _, pages) in machine.mappings.of_connection(self.id) {
            machine.mappings.abandoned += pages;
            machine.unmap(self.id, token);
        }
    }

    /// A goodbye: what is still mapped now was forgotten.
    fn part(&self, machine: &mut Hypervisor) {
        for (token, domid, pages) in machine.mappings.of_connection(self.id) {
            machine.blame(Violation::ForgottenMapping { domid, pages });
            machine.unmap(self.id, token);
        }
    }

    fn events(&mut self, machine: &mut Hypervisor, operation: u32, rest: &[u32]) -> Outcome {
        let owner = Some(self.id);
        match (operation, rest) {
            (evtchn_wire::BIND, &[remote, port]) => {
                let remote = domid(remote)?;
                self.permit(Some(remote))?;
                if !machine.exists(remote) {
                    return Err(Errno::SRCH.into());
                }
                ends(machine.ports.bind(BACKEND, remote, port, owner)?)
            }
            (evtchn_wire::BIND_UNBOUND, &[remote]) => {
                self.permit(None)?;
                ends(machine.ports.alloc(BACKEND, domid(remote)?, owner)?)
            }
            (evtchn_wire::BIND_VIRQ, &[virq]) => {
                self.permit(None)?;
                ends(machine.ports.bind_virq(BACKEND, virq, owner)?)
            }
            (evtchn_wire::UNBIND, &[port]) => match machine.ports.close(BACKEND, port, owner) {
                Ok(()) => okay([]),
                Err(errno) => {
                    machine.blame(Violation::StrayUnbind { port });
                    Err(errno.into())
                }
            },
            (evtchn_wire::RESTRICT, &[to]) => self.restrict(domid(to)?),
            (evtchn_wire::PORTS, []) => okay(machine.ports.of_owner(self.id)),
            (evtchn_wire::ENDS, &[port]) => {
                let found = machine.ports.ends(BACKEND, port, owner)?;
                // Whoever took the connection over may have missed what fired: let it look.
                signal(&found.fds[0])?;
                ends(found)
            }
            _ => nonsense(machine, operation),
        }
    }

    /// `EVTCHN_RESTRICT_DOMID`, with the checks of Linux `drivers/xen/evtchn.c`.
    fn restrict(&mut self, to: DomId) -> Outcome {
        if self.restricted.is_some() {
            return Err(Errno::ACCESS.into());
        }
        if to == BACKEND || to.raw() >= FIRST_RESERVED {
            return Err(Errno::INVAL.into());
        }
        self.restricted = Some(to);
        okay([])
    }

    /// Whether the handle may do something with `remote`, or with no domain in particular.
    fn permit(&self, remote: Option<DomId>) -> Result<(), Errno> {
        if self.restricted.is_none() || self.restricted == remote {
            Ok(())
        } else {
            Err(Errno::ACCESS)
        }
    }

    fn grants(&self, machine: &mut Hypervisor, operation: u32, rest: &[u32]) -> Outcome {
        match (operation, rest) {
            (grant_wire::MAP, [from, writable @ (0 | 1), grefs @ ..]) if !grefs.is_empty() => {
                let grefs: Vec<_> = grefs.iter().copied().map(GrantRef::new).collect();
                match machine.map(self.id, domid(*from)?, &grefs, *writable == 1) {
                    Ok((token, frames)) => okay(std::iter::once(token).chain(frames)),
                    Err(refused) => {
                        let status = i32::from(refused.status.raw()).cast_unsigned();
                        let position = u32::try_from(refused.position).unwrap_or(u32::MAX);
                        Err(Refusal(Errno::INVAL, vec![status, position]))
                    }
                }
            }
            (grant_wire::UNMAP, &[token]) => {
                if machine.unmap(self.id, token) {
                    return okay([]);
                }
                machine.blame(Violation::UnknownUnmap { token });
                Err(Errno::NOENT.into())
            }
            (grant_wire::MEMORY, &[of]) => {
                let domain = machine.alive(domid(of)?)?;
                let mut answer = okay([domain.frames, domain.table_frames])?;
                answer.fds = vec![duplicate(&domain.memory)?, duplicate(&domain.control_fd)?];
                Ok(answer)
            }
            _ => nonsense(machine, operation),
        }
    }
}

/// What guests and the toolstack ask for.
fn toolstack(machine: &mut Hypervisor, operation: u32, rest: &[u32]) -> Outcome {
    match (operation, rest) {
        (wire::CREATE, &[frames, table_frames]) => {
            let created = machine.create(frames, table_frames)?;
            let mut answer = okay([u32::from(created.raw())])?;
            answer.fds = vec![duplicate(&machine.alive(created)?.memory)?];
            Ok(answer)
        }
        (wire::DESTROY, &[of]) => okay([count(machine.destroy(domid(of)?)?)]),
        (wire::ALLOC_PORT, &[of, remote]) => {
            let of = domid(of)?;
            machine.alive(of)?;
            ends(machine.ports.alloc(of, domid(remote)?, None)?)
        }
        (wire::CLOSE_PORT, &[of, port]) => {
            machine.ports.close(domid(of)?, port, None)?;
            okay([])
        }
        (wire::VIOLATIONS, []) => Ok(text(&machine.violations)),
        (wire::DOMAINS, []) => okay(domains(machine)),
        (wire::ABANDONED, []) => okay([count(machine.mappings.abandoned)]),
        (wire::COPIES, &[of]) => {
            let control = &machine.alive(domid(of)?)?.control;
            let copies = &control.words()[grant_wire::CONTROL_COPIES];
            okay([copies.load(std::sync::atomic::Ordering::Relaxed)])
        }
        (wire::FAIL_MAP, &[of, nth, status]) => {
            let status = i16::try_from(status.cast_signed()).map_err(|_| Errno::INVAL)?;
            let status = GrantStatus::from_raw(status);
            machine.mappings.fail(domid(of)?, nth, status);
            okay([])
        }
        (wire::FAIL_COPY, &[of, nth, status]) => {
            let words = machine.alive(domid(of)?)?.control.words();
            let order = std::sync::atomic::Ordering::Release;
            words[grant_wire::CONTROL_COPY_STATUS].store(status, order);
            words[grant_wire::CONTROL_COPY_FAULT].store(nth, order);
            okay([])
        }
        _ => nonsense(machine, operation),
    }
}

fn domains(machine: &Hypervisor) -> Vec<u32> {
    let mut words = Vec::new();
    for (&domid, domain) in &machine.domains {
        words.extend([
            u32::from(domid.raw()),
            u32::from(domain.alive),
            count(machine.mappings.pages_of(domid)),
            count(machine.ports.count(domid)),
        ]);
    }
    words
}

/// The violations as lines, as many as one datagram holds.
fn text(violations: &[Violation]) -> Datagram {
    let mut lines = String::new();
    for violation in violations {
        let line = format!("{violation}\n");
        if lines.len() + line.len() > grant_wire::MAX_WORDS * 2 {
            break;
        }
        lines.push_str(&line);
    }
    let mut words = vec![0, count(lines.len())];
    for bytes in lines.as_bytes().chunks(4) {
        let mut word = [0u8; 4];
        word[..bytes.len()].copy_from_slice(bytes);
        words.push(u32::from_ne_bytes(word));
    }
    Datagram {
        words,
        fds: Vec::new(),
    }
}

fn okay(values: impl IntoIterator<Item = u32>) -> Outcome {
    let mut words = vec![0];
    words.extend(values);
    Ok(Datagram {
        words,
        fds: Vec::new(),
    })
}

fn ends(found: Ends) -> Outcome {
    let mut answer = okay([found.port])?;
    answer.fds = found.fds;
    Ok(answer)
}

fn nonsense(machine: &mut Hypervisor, operation: u32) -> Outcome {
    machine.blame(Violation::BadRequest { operation });
    Err(Errno::INVAL.into())
}

fn domid(word: u32) -> Result<DomId, Errno> {
    u16::try_from(word).map(DomId::new).map_err(|_| Errno::SRCH)
}

fn count(of: usize) -> u32 {
    u32::try_from(of).unwrap_or(u32::MAX)
}

fn duplicate(fd: &OwnedFd) -> Result<OwnedFd, Errno> {
    rustix::io::fcntl_dupfd_cloexec(fd, 0)
}
