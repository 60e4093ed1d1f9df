//! Guests with flipped, missing and added bytes: most are refused when they are loaded, and those that are not run under
//! small limits. None makes the host panic. `HOSTEL_MUTANTS=N` sets how many (200), `HOSTEL_SEED=N` which.

use hostel_app::limits::Limits;

use crate::Role;
use crate::fault::Fault;
use crate::testing::{ask, block_on, code, component, load, runtime};

/// What is changed: a server and a command of each generation, and components in text form that are small enough for a
/// change to hit something of weight.
const SEEDS: &[&str] = &[
    "hello-p2-small",
    "canary-table-p2",
    "loop-across-p2",
    "loop-in-realloc-p2",
    "many-memories-p2",
    "start-loop",
    "run-exit-p1",
    "hello-p3",
];

/// A small generator of numbers; the same seed gives the same mutants.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }

    /// One or two changes.
    fn change(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(2) {
            let at = self.below(bytes.len());
            match self.below(8) {
                0 => bytes.truncate(at.max(1)),
                1 => bytes.insert(at, u8::try_from(self.below(256)).unwrap()),
                2 => drop(bytes.remove(at)),
                3 | 4 => bytes[at] = u8::try_from(self.below(256)).unwrap(),
                _ => bytes[at] ^= 1 << self.below(8),
            }
            if bytes.is_empty() {
                bytes.push(0);
            }
        }
    }
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

fn tight() -> Limits {
    Limits {
        memory_bytes: 8 << 20,
        deadline_ms: Some(50),
        cpu_ms: Some(20),
        ..Limits::default()
    }
}

/// Loads a mutant and, where it is accepted, calls it once; whether it was.
fn try_out(runtime: &crate::Runtime, mutant: &[u8], round: u64) -> bool {
    let mut plain = component(mutant);
    plain.limits = tight();
    for role in [Role::Serve, Role::Run] {
        let Ok(guest) = load(runtime, &plain, mutant, role) else {
            continue;
        };
        let outcome = match role {
            Role::Serve => block_on(ask(&guest, "/")),
            Role::Handle | Role::Job | Role::Service | Role::Call => {
                unreachable!("not one of the roles above")
            }
            Role::Run => match block_on(guest.run(&["mutant".into()])) {
                Ok(code) => code.to_string(),
                Err(fault @ Fault::Host(_)) => panic!("mutant {round}: {fault}"),
                Err(fault) => fault.row().name.to_owned(),
            },
        };
        assert_ne!(outcome, "host", "mutant {round}");
        return true;
    }
    false
}

#[test]
fn a_mutant_is_refused_or_runs_within_its_limits() {
    let (mutants, seed) = (
        number("HOSTEL_MUTANTS", 200),
        number("HOSTEL_SEED", 0x9e37_79b9_7f4a_7c15),
    );
    println!("HOSTEL_MUTANTS={mutants} HOSTEL_SEED={seed}");
    let runtime = runtime(None);
    let seeds: Vec<Vec<u8>> = SEEDS.iter().map(|name| code(name)).collect();
    let mut random = Random(seed.max(1));
    let mut ran = 0;
    for round in 0..mutants {
        let mut mutant = seeds[random.below(seeds.len())].clone();
        random.change(&mut mutant);
        ran += u64::from(try_out(&runtime, &mutant, round));
    }
    println!("{ran} of {mutants} mutants were accepted and ran");
    assert!(ran >= mutants / 50, "only {ran} of {mutants} mutants ran");
    let whole = code("hello-p2-small");
    let guest = load(&runtime, &component(&whole), &whole, Role::Serve).unwrap();
    assert_eq!(block_on(ask(&guest, "/")), "200");
}
