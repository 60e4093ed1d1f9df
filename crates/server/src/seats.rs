//! Who may hold a connection: so many in all, and so many from one address, so that no single client can take all of
//! them. One table for all threads, behind one lock that is held for a look-up at accept and at close; it has an entry
//! for each address with an open connection, so it is never longer than the total. What a client without a seat is told
//! is `connection`'s business.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::bounds::Bounds;

/// What counts as one address: an IPv4 address, also where it comes mapped into IPv6; of IPv6 the first half, because
/// the second half is the client's own to choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Network {
    V4(Ipv4Addr),
    V6(u64),
}

impl Network {
    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => Self::V6(prefix(address)),
        }
    }
}

/// The first 64 bits.
fn prefix(address: Ipv6Addr) -> u64 {
    (address.to_bits() >> 64) as u64
}

/// Why there is no seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// All seats are taken; `first` the first time since there were some to spare.
    Total { first: bool },
    /// This address has its share.
    Address,
}

/// The seats of one server.
#[derive(Debug)]
pub(crate) struct Seats {
    total_max: usize,
    address_max: usize,
    turned_away_max: usize,
    taken: Mutex<Taken>,
    turned_away: AtomicUsize,
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    by_network: HashMap<Network, usize>,
    /// The operator knows that all seats are taken.
    told: bool,
}

impl Seats {
    pub(crate) fn new(bounds: &Bounds) -> Self {
        Self {
            total_max: bounds.connections,
            address_max: bounds.connections_per_address,
            turned_away_max: bounds.turned_away,
            taken: Mutex::default(),
            turned_away: AtomicUsize::new(0),
        }
    }

    /// Takes a seat; whoever has it must [`Seats::give_back`] what this returns.
    pub(crate) fn take(&self, address: IpAddr) -> Result<Network, Full> {
        let network = Network::of(address);
        let mut taken = self.lock();
        if taken.total >= self.total_max {
            let first = !std::mem::replace(&mut taken.told, true);
            return Err(Full::Total { first });
        }
        let of_network = taken.by_network.get(&network).copied().unwrap_or(0);
        if of_network >= self.address_max {
            return Err(Full::Address);
        }
        taken.total += 1;
        taken.by_network.insert(network, of_network + 1);
        Ok(network)
    }

    pub(crate) fn give_back(&self, network: Network) {
        let mut taken = self.lock();
        taken.total = taken.total.saturating_sub(1);
        // Not at the first free seat: a crowd that comes and goes is one event.
        taken.told &= taken.total > self.total_max / 10 * 9;
        if let Entry::Occupied(mut count) = taken.by_network.entry(network) {
            match count.get().checked_sub(1) {
                None | Some(0) => {
                    count.remove();
                }
                Some(left) => *count.get_mut() = left,
            }
        }
    }

    /// Whether one more client without a seat may stay until it has read so; it then counts until it [`Seats::has_left`].
    pub(crate) fn may_stay(&self) -> bool {
        let before = self.turned_away.fetch_add(1, Relaxed);
        if before >= self.turned_away_max {
            self.has_left();
        }
        before < self.turned_away_max
    }

    /// One that was turned away has gone.
    pub(crate) fn has_left(&self) {
        self.turned_away.fetch_sub(1, Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        // Nothing in here can panic between two changes that belong together.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seats(connections: usize, connections_per_address: usize) -> Seats {
        Seats::new(&Bounds {
            connections,
            connections_per_address,
            turned_away: 2,
            ..Bounds::default()
        })
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_its_share_and_no_more() {
        let seats = seats(10, 2);
        let first = seats.take(ip("192.0.2.1")).unwrap();
        seats.take(ip("192.0.2.1")).unwrap();
        assert_eq!(seats.take(ip("192.0.2.1")), Err(Full::Address));
        seats.take(ip("192.0.2.2")).unwrap();
        seats.give_back(first);
        seats.take(ip("192.0.2.1")).unwrap();
        assert_eq!(seats.take(ip("192.0.2.1")), Err(Full::Address));
    }

    #[test]
    fn the_total_is_over_all_addresses() {
        let seats = seats(2, 2);
        seats.take(ip("192.0.2.1")).unwrap();
        let second = seats.take(ip("192.0.2.2")).unwrap();
        assert_eq!(
            seats.take(ip("192.0.2.3")),
            Err(Full::Total { first: true })
        );
        seats.give_back(second);
        seats.take(ip("192.0.2.3")).unwrap();
    }

    #[test]
    fn the_operator_is_told_once_for_each_crowd() {
        let seats = seats(20, 20);
        let first = |seats: &Seats| match seats.take(ip("192.0.2.1")) {
            Err(Full::Total { first }) => first,
            other => panic!("{other:?}"),
        };
        let mut taken: Vec<_> = (0..20)
            .map(|_| seats.take(ip("192.0.2.1")).unwrap())
            .collect();
        assert!(first(&seats) && !first(&seats));
        seats.give_back(taken.pop().unwrap());
        seats.take(ip("192.0.2.1")).unwrap();
        assert!(!first(&seats), "one seat to spare is no other crowd");
        taken.drain(..5).for_each(|seat| seats.give_back(seat));
        (0..5).for_each(|_| _ = seats.take(ip("192.0.2.1")).unwrap());
        assert!(first(&seats) && !first(&seats));
    }

    #[test]
    fn threads_that_take_and_give_back_leave_nothing() {
        let seats = seats(50, 10);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let seats = &seats;
                scope.spawn(move || {
                    for number in 0..5000 {
                        let address = Ipv4Addr::from_bits((number + thread) % 7);
                        if let Ok(seat) = seats.take(address.into()) {
                            seats.give_back(seat);
                        }
                    }
                });
            }
        });
        let left = seats.lock();
        assert_eq!((left.total, left.by_network.len()), (0, 0));
    }

    #[test]
    fn a_mapped_address_is_the_one_that_it_maps() {
        assert_eq!(
            Network::of(ip("::ffff:192.0.2.1")),
            Network::of(ip("192.0.2.1"))
        );
        assert_ne!(Network::of(ip("192.0.2.1")), Network::of(ip("192.0.2.2")));
    }

    #[test]
    fn of_ipv6_the_first_half_counts() {
        let one = Network::of(ip("2001:db8:1:2:3::4"));
        assert_eq!(one, Network::of(ip("2001:db8:1:2:ffff:ffff:ffff:ffff")));
        assert_ne!(one, Network::of(ip("2001:db8:1:3::4")));
    }

    #[test]
    fn the_table_is_empty_once_all_have_left() {
        let seats = seats(1000, 1000);
        let taken: Vec<_> = (0..1000_u32)
            .map(|number| {
                seats
                    .take(Ipv4Addr::from_bits(number % 300).into())
                    .unwrap()
            })
            .collect();
        assert_eq!(seats.lock().by_network.len(), 300);
        taken.into_iter().for_each(|seat| seats.give_back(seat));
        let left = seats.lock();
        assert_eq!((left.total, left.by_network.len()), (0, 0));
    }

    #[test]
    fn a_few_of_those_without_a_seat_may_stay_for_a_moment() {
        let seats = seats(1, 1);
        assert!(seats.may_stay() && seats.may_stay());
        assert!(!seats.may_stay());
        seats.has_left();
        assert!(seats.may_stay());
    }
}
