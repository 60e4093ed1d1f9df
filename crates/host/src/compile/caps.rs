//! What one compilation may cost, and how that is told to the process that compiles.
//!
//! The bounds come from `hostel_app::limits`; tests set smaller ones. [`Order`] is the whole protocol on the command
//! line of the child: both sides read it here, so that they cannot differ.

use std::num::ParseIntError;
use std::time::Duration;

use hostel_app::limits::{self, Limit};
use wasmparser::{Parser, Payload};

use crate::engine::Flavor;

/// The bounds of one compilation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompileCaps {
    /// CPU time for each MiB of the guest's functions, a begun one counting whole.
    pub cpu_per_mib: Duration,
    /// CPU time, however large the guest is.
    pub cpu: Duration,
    /// Memory that the compiler may allocate, in bytes.
    pub memory_bytes: u64,
    /// Wall clock.
    pub time: Duration,
    /// Size of the machine code, in bytes.
    pub artifact_bytes: u64,
}

impl Default for CompileCaps {
    /// Those of the table of limits.
    fn default() -> Self {
        Self {
            cpu_per_mib: limits::COMPILE_CPU_PER_MIB_MS.duration(),
            cpu: limits::COMPILE_CPU_MS.duration(),
            memory_bytes: limits::COMPILE_MEMORY_BYTES.default,
            time: limits::COMPILE_TIME_MS.duration(),
            artifact_bytes: limits::ARTIFACT_BYTES_MAX.default,
        }
    }
}

const MIB: u64 = 1 << 20;

impl CompileCaps {
    /// The CPU time for this binary, and the limit that it comes from. The kernel counts whole seconds.
    pub(super) fn cpu_seconds(&self, binary: &[u8]) -> (u64, &'static Limit) {
        let mebibytes = code_bytes(binary).div_ceil(MIB);
        let mebibytes = u32::try_from(mebibytes.max(1)).unwrap_or(u32::MAX);
        let by_size = self.cpu_per_mib.saturating_mul(mebibytes);
        let (cpu, limit) = if by_size < self.cpu {
            (by_size, &limits::COMPILE_CPU_PER_MIB_MS)
        } else {
            (self.cpu, &limits::COMPILE_CPU_MS)
        };
        (cpu.as_secs_f64().ceil().max(1.0) as u64, limit)
    }
}

/// As much of one function counts for the CPU time that is granted. Honest functions are smaller (the largest that was
/// seen, in a Python interpreter, has 416 KiB), and the cost of larger ones can grow with the square of their size.
const FUNCTION_BYTES_COUNTED: usize = 512 << 10;

/// Size of all functions, those of nested modules included. Data and custom sections cost the compiler nothing, so that
/// padding must not buy CPU time. What cannot be read is left to the compiler, which refuses it at once.
fn code_bytes(binary: &[u8]) -> u64 {
    let payloads = Parser::new(0).parse_all(binary).map_while(Result::ok);
    payloads
        .map(|payload| match payload {
            Payload::CodeSectionEntry(body) => {
                body.range().len().min(FUNCTION_BYTES_COUNTED) as u64
            }
            _ => 0,
        })
        .sum()
}

/// What a binary is compiled to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Module,
    Component,
}

/// What the child is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) flavor: Flavor,
    pub(super) kind: Kind,
    pub(super) cpu_seconds: u64,
    pub(super) memory_bytes: u64,
    pub(super) artifact_bytes: u64,
    /// The process that waits for it; without that one the work is for nobody.
    pub(super) parent: u32,
}

impl Order {
    /// As words of a command line.
    pub(super) fn words(&self) -> [String; 6] {
        let flavor = match self.flavor {
            Flavor::Sync => "sync",
            Flavor::Async => "async",
        };
        let kind = match self.kind {
            Kind::Module => "module",
            Kind::Component => "component",
        };
        [
            flavor.to_owned(),
            kind.to_owned(),
            self.cpu_seconds.to_string(),
            self.memory_bytes.to_string(),
            self.artifact_bytes.to_string(),
            self.parent.to_string(),
        ]
    }

    /// Reads [`Order::words`]; nobody else writes them.
    pub(super) fn parse(words: &[String]) -> Option<Self> {
        let [flavor, kind, cpu, memory, artifact, parent] = words else {
            return None;
        };
        let number = |word: &String| -> Result<u64, ParseIntError> { word.parse() };
        Some(Self {
            flavor: match flavor.as_str() {
                "sync" => Flavor::Sync,
                "async" => Flavor::Async,
                _ => return None,
            },
            kind: match kind.as_str() {
                "module" => Kind::Module,
                "component" => Kind::Component,
                _ => return None,
            },
            cpu_seconds: number(cpu).ok()?,
            memory_bytes: number(memory).ok()?,
            artifact_bytes: number(artifact).ok()?,
            parent: parent.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_read_the_same_order() {
        for (flavor, kind) in [
            (Flavor::Sync, Kind::Module),
            (Flavor::Async, Kind::Component),
        ] {
            let order = Order {
                flavor,
                kind,
                cpu_seconds: 1,
                memory_bytes: 2,
                artifact_bytes: u64::MAX,
                parent: 4,
            };
            assert_eq!(Order::parse(&order.words()), Some(order));
        }
        let words = |text: &str| -> Vec<String> { text.split(' ').map(String::from).collect() };
        for odd in [
            "",
            "sync module 1 2 3",
            "sync module 1 2 3 4 5",
            "other module 1 2 3 4",
            "sync other 1 2 3 4",
            "sync module -1 2 3 4",
            "sync module 1 2 3 x",
        ] {
            assert_eq!(Order::parse(&words(odd)), None, "{odd}");
        }
    }

    /// A module with functions of these sizes and a custom section.
    fn module(functions: &[usize], padding: usize) -> Vec<u8> {
        let bodies = functions
            .iter()
            .flat_map(|&size| [&leb(size)[..], &vec![0; size]].concat());
        let code: Vec<u8> = leb(functions.len()).into_iter().chain(bodies).collect();
        let types = [&leb(functions.len())[..], &vec![0; functions.len()]].concat();
        let custom = [&[1, b'x'][..], &vec![0; padding]].concat();
        [
            &b"\0asm\x01\0\0\0"[..],
            &section(3, &types),
            &section(10, &code),
            &section(0, &custom),
        ]
        .concat()
    }

    fn section(id: u8, content: &[u8]) -> Vec<u8> {
        [&[id][..], &leb(content.len()), content].concat()
    }

    /// In five bytes, however small.
    fn leb(number: usize) -> [u8; 5] {
        let part = |at: usize| (number >> (7 * at)) as u8 & 0x7f;
        [
            part(0) | 0x80,
            part(1) | 0x80,
            part(2) | 0x80,
            part(3) | 0x80,
            part(4),
        ]
    }

    #[test]
    fn cpu_time_grows_with_the_functions_up_to_its_cap() {
        let caps = CompileCaps {
            cpu_per_mib: Duration::from_secs(10),
            cpu: Duration::from_secs(25),
            ..CompileCaps::default()
        };
        for (functions, padding, seconds, name) in [
            (vec![], 0, 10, "compile_cpu_per_mib"),
            (vec![1], 5 << 20, 10, "compile_cpu_per_mib"),
            (vec![1 << 19], 0, 10, "compile_cpu_per_mib"),
            (vec![7 << 20], 0, 10, "compile_cpu_per_mib"),
            (vec![1 << 19; 2], 0, 10, "compile_cpu_per_mib"),
            (vec![1 << 19; 3], 0, 20, "compile_cpu_per_mib"),
            (vec![1 << 19; 5], 0, 25, "compile_cpu"),
        ] {
            let module = module(&functions, padding);
            let component = [&b"\0asm\x0d\0\x01\0"[..], &section(1, &module)].concat();
            for binary in [module, component] {
                let (cpu, limit) = caps.cpu_seconds(&binary);
                assert_eq!((cpu, limit.name), (seconds, name), "{functions:?}");
            }
        }
        assert_eq!(caps.cpu_seconds(b"rubbish").0, 10);
        let short = CompileCaps {
            cpu: Duration::from_millis(1),
            ..caps
        };
        assert_eq!(
            short.cpu_seconds(b"").0,
            1,
            "the kernel counts whole seconds"
        );
    }
}
