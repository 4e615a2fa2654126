//! Private memory that frames pass through.
//!
//! A queue needs some while it is at work, and none while it sleeps: so the queues of a guest share
//! what there is, which is as much as they have needed at the same time. Memory that is granted to
//! our own domain is cheap to copy to, but dear to get, and the system lends only so much of it to all
//! guests together: so a guest gets little of it, and whatever nobody has used for a while is given
//! back. Memory is never shared between guests.

use std::fmt::Debug;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gntdev::{Gntalloc, GrantError, LocalPages};
use ring_proto::DomId;
use tracing::info;

/// Pages of a [`Scratch`]: some of the longest frames at once.
const PAGES: usize = 96;

/// So many of a guest are granted at most.
const GRANTED: usize = 4;

/// How long memory is kept that nobody uses: longer than what comes once a second, as ping does,
/// leaves it alone.
pub(crate) const IDLE: Duration = Duration::from_secs(2);

/// How long none is asked for that was refused.
const PAUSE: Duration = Duration::from_secs(10);

/// Lends memory to the queues of one guest. Times are those of any clock that does not go back, with
/// whatever precision.
#[derive(Debug)]
pub struct Pool {
    /// Where memory comes from that is cheap to copy to; none if the system has no such thing.
    source: Option<Box<dyn Source>>,
    /// It was said that there is no more of that.
    told: AtomicBool,
    stock: Mutex<Stock>,
}

/// Where granted memory comes from.
trait Source: Debug + Send + Sync {
    fn pages(&self, pages: usize) -> Result<LocalPages, GrantError>;
}

/// What a pool has.
#[derive(Debug, Default)]
struct Stock {
    /// Granted and not used now.
    granted: Vec<Idle>,
    /// Not granted and not used now.
    plain: Vec<Idle>,
    /// So many are granted, those that are lent among them.
    held: usize,
    /// None is asked for before.
    ask_again: Duration,
}

/// Memory that nobody uses. The next that is lent is what was used last, so what is not needed grows
/// old.
#[derive(Debug)]
struct Idle {
    pages: LocalPages,
    since: Duration,
}

/// Memory that is lent. Its content is what the last queue left there.
#[derive(Debug)]
pub struct Scratch {
    /// Always there, until it goes back.
    pages: Option<LocalPages>,
    granted: bool,
    since: Duration,
    pool: Arc<Pool>,
}

impl Pool {
    /// Of a worker in the domain `own`; `None` where grants are simulated.
    #[must_use]
    pub fn new(own: Option<DomId>) -> Self {
        let source = own.and_then(|own| {
            let opened = Gntalloc::open(own);
            opened
                .inspect_err(|error| {
                    info!(%error, "copies are dearer: load the module xen-gntalloc");
                })
                .ok()
        });
        Self::of(source.map(|source| Box::new(source) as Box<dyn Source>))
    }

    fn of(source: Option<Box<dyn Source>>) -> Self {
        Self {
            source,
            told: AtomicBool::new(false),
            stock: Mutex::default(),
        }
    }

    /// Lends memory until the value is dropped.
    ///
    /// # Errors
    /// The host has none left.
    pub fn lend(self: &Arc<Self>, now: Duration) -> Result<Scratch, GrantError> {
        let granted = self.granted(now);
        let is_granted = granted.is_some();
        let pages = match granted {
            Some(pages) => pages,
            None => self.plain()?,
        };
        Ok(Scratch {
            pages: Some(pages),
            granted: is_granted,
            since: now,
            pool: Arc::clone(self),
        })
    }

    /// Gives back what nobody has used for two seconds.
    pub fn tidy(&self, now: Duration) {
        let is_old = |idle: &mut Idle| now.saturating_sub(idle.since) >= IDLE;
        let mut stock = self.stock();
        let granted: Vec<_> = stock.granted.extract_if(.., is_old).collect();
        let plain: Vec<_> = stock.plain.extract_if(.., is_old).collect();
        stock.held -= granted.len();
        // Nobody waits for the system meanwhile.
        drop(stock);
        drop((granted, plain));
    }

    /// `None` if there is none left for this guest, or for any.
    fn granted(&self, now: Duration) -> Option<LocalPages> {
        let source = self.source.as_ref()?;
        let mut stock = self.stock();
        if let Some(idle) = stock.granted.pop() {
            return Some(idle.pages);
        }
        if stock.held >= GRANTED || now < stock.ask_again {
            return None;
        }
        stock.held += 1;
        drop(stock);
        let asked = source.pages(PAGES);
        let mut stock = self.stock();
        match asked {
            Ok(pages) => {
                // It is needed no more.
                let replaced = stock.plain.pop();
                drop(stock);
                drop(replaced);
                Some(pages)
            }
            Err(error) => {
                stock.held -= 1;
                stock.ask_again = now + PAUSE;
                if !self.told.swap(true, Ordering::Relaxed) {
                    info!(
                        %error,
                        "copies are dearer: raise /sys/module/xen_gntalloc/parameters/limit"
                    );
                }
                None
            }
        }
    }

    fn plain(&self) -> Result<LocalPages, GrantError> {
        let idle = self.stock().plain.pop();
        idle.map_or_else(|| LocalPages::new(PAGES), |idle| Ok(idle.pages))
    }

    fn stock(&self) -> std::sync::MutexGuard<'_, Stock> {
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source for Gntalloc {
    fn pages(&self, pages: usize) -> Result<LocalPages, GrantError> {
        Self::pages(self, pages)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let since = self.since;
        let idle = self.pages.take().map(|pages| Idle { pages, since });
        let mut stock = self.pool.stock();
        if self.granted {
            stock.granted.extend(idle);
        } else {
            stock.plain.extend(idle);
        }
    }
}

impl Deref for Scratch {
    type Target = LocalPages;

    #[expect(clippy::expect_used, reason = "only `drop` takes them")]
    fn deref(&self) -> &LocalPages {
        self.pages.as_ref().expect("dropped memory is not used")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// A system that lends so many more.
    #[derive(Debug, Default)]
    struct System {
        left: AtomicUsize,
        asked: AtomicUsize,
    }

    impl System {
        fn asked(&self) -> usize {
            self.asked.load(Ordering::Relaxed)
        }
    }

    impl Source for Arc<System> {
        fn pages(&self, pages: usize) -> Result<LocalPages, GrantError> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let left = &self.left;
            let taken = left.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            });
            let used_up = |_none| GrantError::BadCount { pages };
            taken.map_err(used_up)?;
            LocalPages::new(pages)
        }
    }

    fn pool(left: usize) -> (Arc<Pool>, Arc<System>) {
        let system = Arc::new(System::default());
        system.left.store(left, Ordering::Relaxed);
        let source: Box<dyn Source> = Box::new(Arc::clone(&system));
        (Arc::new(Pool::of(Some(source))), system)
    }

    /// So many at once, and how many of them are granted.
    fn lend(pool: &Arc<Pool>, count: usize, now: Duration) -> (Vec<Scratch>, usize) {
        let lent: Vec<_> = (0..count).map(|_| pool.lend(now).unwrap()).collect();
        let granted = lent.iter().filter(|lent| lent.granted).count();
        (lent, granted)
    }

    fn kept(pool: &Pool) -> (usize, usize) {
        let stock = pool.stock();
        (stock.granted.len(), stock.plain.len())
    }

    const START: Duration = Duration::from_secs(100);

    #[test]
    fn memory_that_came_back_is_lent_again() {
        for pool in [Arc::new(Pool::new(None)), pool(1).0] {
            let first = pool.lend(START).unwrap();
            first.write(0, b"mark").unwrap();
            drop(first);
            let again = pool.lend(START).unwrap();
            let mut mark = [0; 4];
            again.read(0, &mut mark).unwrap();
            assert_eq!(&mark, b"mark");
        }
    }

    #[test]
    fn a_guest_has_only_so_much_granted_memory_and_gets_none_twice() {
        let (pool, system) = pool(1000);
        for _ in 0..100 {
            let (_lent, granted) = lend(&pool, 2 * GRANTED, START);
            assert_eq!(granted, GRANTED);
        }
        assert_eq!(system.asked(), GRANTED);
        assert_eq!(kept(&pool), (GRANTED, GRANTED));
    }

    #[test]
    fn what_nobody_uses_for_a_while_is_given_back() {
        let (pool, system) = pool(1000);
        drop(lend(&pool, 2 * GRANTED, START));
        let mut now = START;
        while now < START + IDLE {
            pool.tidy(now);
            assert_eq!(kept(&pool), (GRANTED, GRANTED));
            drop(pool.lend(now).unwrap());
            now += IDLE / 4;
        }
        // One was used all the time.
        pool.tidy(now);
        assert_eq!(kept(&pool), (1, 0));
        let (lent, _) = lend(&pool, 2, now);
        pool.tidy(now + 2 * IDLE);
        drop(lent);
        pool.tidy(now + 2 * IDLE);
        assert_eq!(kept(&pool), (0, 0));
        // As much as before can be had.
        let (_lent, granted) = lend(&pool, 2 * GRANTED, now + 2 * IDLE);
        assert_eq!(granted, GRANTED);
        assert_eq!(system.asked(), 2 * GRANTED + 1);
    }

    #[test]
    fn what_was_refused_is_not_asked_for_again_and_again() {
        let (pool, system) = pool(1);
        for _ in 0..100 {
            let (_lent, granted) = lend(&pool, GRANTED, START);
            assert_eq!(granted, 1);
        }
        assert_eq!(system.asked(), 2);
        drop(lend(&pool, GRANTED, START + PAUSE));
        assert_eq!(system.asked(), 3);
    }

    #[test]
    fn granted_memory_takes_the_place_of_other() {
        let (pool, system) = pool(0);
        assert_eq!(lend(&pool, GRANTED, START).1, 0);
        assert_eq!(kept(&pool), (0, GRANTED));
        system.left.store(1000, Ordering::Relaxed);
        let later = START + PAUSE;
        assert_eq!(lend(&pool, GRANTED, later).1, GRANTED);
        assert_eq!(kept(&pool), (GRANTED, 0));
    }
}
