//! Calls at random: a guest that means harm, without the guest.

use std::io::Write;

use super::calls::{folder, load, module};
use super::*;
use crate::p1::descriptors::{Descriptor, Descriptors};
use crate::p1::{calls, file, poll};
use crate::state::{Host, Template};
use crate::testing::block_on;

/// Numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: u32) -> i32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        i32::try_from((self.0 >> 33) % u64::from(most)).unwrap()
    }

    /// A descriptor that may exist, or not.
    fn fd(&mut self) -> i32 {
        match self.below(20) {
            0 => i32::MIN + self.below(100),
            1 => -1 - self.below(3),
            _ => self.below(8),
        }
    }

    /// An address that may be inside the memory, or not.
    fn at(&mut self) -> i32 {
        match self.below(20) {
            0 => -1 - self.below(100),
            1 => 65_536 - self.below(40),
            _ => self.below(4096),
        }
    }

    /// Mostly none.
    fn flags(&mut self) -> i32 {
        match self.below(4) {
            0 => self.below(16),
            1 => self.below(1 << 30),
            _ => 0,
        }
    }
}

async fn one_call(memory: &mut [u8], host: &mut Host, any: &mut Numbers) -> i32 {
    let (fd, count) = (any.fd(), any.below(4));
    let done = match any.below(14) {
        0 => calls::fd_close(memory, host, fd).await,
        1 => calls::fd_fdstat_get(memory, host, (fd, any.at())).await,
        2 => calls::fd_fdstat_set_flags(memory, host, (fd, any.flags())).await,
        3 => calls::fd_filestat_get(memory, host, (fd, any.at())).await,
        4 => calls::fd_read(memory, host, (fd, any.at(), count, any.at())).await,
        5 => calls::fd_renumber(memory, host, (fd, any.fd())).await,
        6 => calls::fd_write(memory, host, (fd, any.at(), count, any.at())).await,
        7 => poll::poll_oneoff(memory, host, (any.at(), any.at(), count, any.at())).await,
        8 => calls::sock_accept(memory, host, (fd, any.flags(), any.at())).await,
        9 => {
            let args = (fd, any.at(), count, any.flags(), any.at(), any.at());
            calls::sock_recv(memory, host, args).await
        }
        10 => calls::sock_send(memory, host, (fd, any.at(), count, any.flags(), any.at())).await,
        11 => calls::sock_shutdown(memory, host, (fd, any.flags())).await,
        _ => calls::sock_accept(memory, host, (4, 0, any.at())).await,
    };
    done.unwrap_or(-1)
}

/// Every number of the library's is in the table once, and none that it never gave out.
fn is_sound(table: &Descriptors, directories: u32) -> bool {
    let mut seen = std::collections::BTreeSet::new();
    (0..64).all(|fd| match table.get(fd) {
        Ok(Descriptor::Library(number)) => *number < 3 + directories && seen.insert(*number),
        _ => true,
    })
}

#[test]
fn calls_at_random_break_nothing_and_reach_nothing_of_others() {
    let (runtime, folder) = (testing::runtime(None), folder());
    let guest = load(&runtime, folder.path(), &module("(i32.const 0)"));
    block_on(async {
        let (mut succeeded, mut accepted) = (0, 0);
        for seed in 0..300 {
            let (ours, address) = listener();
            let (others, _) = listener();
            let (_stop, stopped) = watch::channel(true);
            let life = crate::abi::service::Life::new(ServiceStart {
                listeners: vec![ours],
                export: None,
                stop: stopped,
                ready: Box::new(|| {}),
                ready_line: None,
                cpu_percent: None,
            });
            let template = Arc::new(Template {
                life: Some(life),
                ..guest.0.template.as_ref().clone()
            });
            let mut store = Host::store(&guest.0.engine, &template, RequestId(0)).unwrap();
            store.data_mut().enable_p1().unwrap();
            let mut any = Numbers(seed);
            let mut memory = vec![0; 65_536];
            for byte in &mut memory {
                *byte = u8::try_from(any.below(6)).unwrap();
            }
            let mut clients = Vec::new();
            for turn in 0..60 {
                if turn % 8 == 0 {
                    let mut client = connect(address).unwrap();
                    client.write_all(b"some bytes").unwrap();
                    clients.push(client);
                    clients.drain(..clients.len() / 8);
                }
                let host = store.data_mut();
                let open = |host: &mut Host| {
                    (0..64)
                        .filter(|fd| host.descriptors().unwrap().stream(*fd).is_ok())
                        .count()
                };
                let before = open(host);
                let one = one_call(&mut memory, host, &mut any);
                // What waits is given up, as a service that is ended is.
                let code = tokio::time::timeout(Duration::from_millis(2), one).await;
                succeeded += usize::from(code == Ok(0));
                accepted += usize::from(open(host) > before);
                assert!((-1..=76).contains(&code.unwrap_or(0)), "seed {seed}");
                assert!(
                    is_sound(host.descriptors().unwrap(), 1),
                    "seed {seed}, turn {turn}"
                );
                assert!(file(host, -1, crate::p1::errno::Errno::SPIPE).is_err());
            }
            assert!(others.local_addr().is_ok());
        }
        assert!(
            succeeded > 1000 && accepted > 100,
            "{succeeded}, {accepted}"
        );
    });
}
