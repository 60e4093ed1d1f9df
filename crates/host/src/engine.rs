//! The wasmtime configuration: every switch is set here, with its reason.
//!
//! There are two engines. Core modules, preview 1 and WASI 0.2 run on one without the component model's async
//! support, which saves about a third of a short request's CPU; WASI 0.3 needs it and has its own. Compiled code
//! belongs to one of them. This file decides nothing at run time.

use std::num::NonZeroUsize;

use hostel_app::limits;
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig,
    RegallocAlgorithm, Result, Strategy, WasmBacktraceDetails, WasmFeatures,
};

/// Which of the two engines a guest runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavor {
    /// Core modules, preview 1 and WASI 0.2.
    Sync,
    /// WASI 0.3: component-model async.
    Async,
}

/// Where instances live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Allocation {
    /// Reserved slots that are cleaned and used again: fast, and bounded by construction.
    Pooled,
    /// One mapping per instance, for machines whose address space does not hold the pool.
    OnDemand,
}

/// The host's share of a fiber's stack on top of the guest's.
const HOST_STACK_BYTES: usize = 1 << 20;
/// Components instantiate two to four core modules each.
const CORE_INSTANCES_PER_COMPONENT: u32 = 4;
/// What one component may be made of.
const CORE_INSTANCES_MAX: u32 = 32;
const MEMORIES_MAX: u32 = 8;
const TABLES_MAX: u32 = 32;

/// An engine of this flavour, pooled if the address space allows it, on demand otherwise.
pub(crate) fn new(flavor: Flavor, metered: bool) -> Result<(Engine, Allocation)> {
    match Engine::new(&config(flavor, Allocation::Pooled, metered)) {
        Ok(engine) => Ok((engine, Allocation::Pooled)),
        Err(_) => Ok((
            Engine::new(&config(flavor, Allocation::OnDemand, metered))?,
            Allocation::OnDemand,
        )),
    }
}

/// An engine that only compiles, for guests with budgets. Its code runs on any engine of this flavour, however that one keeps its instances.
pub(crate) fn for_compiling(flavor: Flavor) -> Result<Engine> {
    Engine::new(&config(flavor, Allocation::OnDemand, true))
}

/// The configuration of one engine. What is compiled depends on it: `cache` keys by it.
fn config(flavor: Flavor, allocation: Allocation, metered: bool) -> Config {
    let mut config = Config::new();
    code(&mut config);
    config.epoch_interruption(metered); // the only way to stop a loop; off only to measure what budgets cost
    features(&mut config, flavor);
    memory(&mut config);
    if allocation == Allocation::Pooled {
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool()));
    } else {
        config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
    }
    config
}

/// How code is compiled and interrupted.
fn code(config: &mut Config) {
    config.strategy(Strategy::Cranelift); // the tier that upstream fuzzes and calls tier 1
    config.cranelift_opt_level(OptLevel::Speed); // guests are compiled once and run many times
    config.cranelift_regalloc_algorithm(RegallocAlgorithm::Backtracking); // better code; compile time is cached away
    config.cranelift_nan_canonicalization(false); // nothing here needs bit-identical NaNs
    config.parallel_compilation(true); // a 15 MB guest compiles on every core
    config.consume_fuel(false); // slower than epochs, and three advisories bypassed it
    config.max_wasm_stack(limits::WASM_STACK_BYTES.size()); // deeper recursion traps
    config.async_stack_size(limits::WASM_STACK_BYTES.size() + HOST_STACK_BYTES); // never equal: the host needs its part
    config.async_stack_zeroing(false); // guests cannot read stacks; it costs a page-clearing per call
    config.signals_based_traps(true); // bounds checks by guard page instead of by branch
    config.wasm_backtrace_max_frames(NonZeroUsize::new(20)); // for the operator's log, never for a client
    config.wasm_backtrace_details(WasmBacktraceDetails::Disable); // DWARF parsing on a trap would cost the neighbours
    config.debug_info(false); // no native debugger is attached
    config.generate_address_map(true); // backtraces name functions and offsets
    config.native_unwind_info(true); // profilers on the host can walk guest frames
}

/// Which proposals a guest may use: those of WASI 0.2 and 0.3, nothing younger.
fn features(config: &mut Config, flavor: Flavor) {
    let is_async = flavor == Flavor::Async;
    config.concurrency_support(is_async); // off: 27.7 -> 19.0 µs per request where WASI 0.3 is not in play
    config.wasm_component_model(true);
    config.wasm_component_model_async(is_async);
    config.wasm_component_model_more_async_builtins(false); // not part of WASI 0.3.0
    config.wasm_component_model_async_stackful(false); // not part of WASI 0.3.0
    config.wasm_component_model_threading(false); // no threads in guests
    config.wasm_component_model_gc(false); // the garbage collector is not compiled in
    config.wasm_component_model_map(false); // not standardised
    config.wasm_component_model_memory64(false); // 64-bit memories lose the guard-page bounds checks
    config.wasm_simd(true); // baseline of every toolchain
    config.wasm_relaxed_simd(true); // standard; deterministic below
    config.relaxed_simd_deterministic(true); // the same guest answers the same on every machine
    config.wasm_bulk_memory(true); // baseline
    config.wasm_multi_value(true); // baseline
    config.wasm_multi_memory(true); // composed components need it
    config.wasm_tail_call(true); // standard
    config.wasm_extended_const(true); // standard
    config.wasm_memory64(false); // see above
    config.wasm_wide_arithmetic(false); // not standardised
    config.wasm_custom_page_sizes(false); // not standardised
    config.wasm_features(WasmFeatures::FUNCTION_REFERENCES, false); // of use with a garbage collector only
    config.wasm_stack_switching(false); // not standardised
    config.shared_memory(false); // no threads: a guest has no fine timer to race against
}

/// How linear memories are laid out and initialised.
fn memory(config: &mut Config) {
    config.memory_reservation(4 << 30); // the whole 32-bit index space: no bounds checks
    config.memory_guard_size(32 << 20); // static offsets beyond it are checked explicitly
    config.guard_before_linear_memory(true); // margin for a miscompiled negative offset
    config.memory_may_move(false); // the base stays in a register
    config.memory_init_cow(true); // a fresh instance maps its data instead of copying it
    config.table_lazy_init(true); // a large guest does not pay for functions that it never calls indirectly
}

/// The pool's slots. Keeping the touched part of a slot resident and cleaning it by `memset` is what makes a fresh
/// instance per request cheap (without: 39 instead of 19 µs).
fn pool() -> PoolingAllocationConfig {
    let instances = limits::INSTANCES_MAX.count();
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances);
    pool.total_core_instances(instances * CORE_INSTANCES_PER_COMPONENT);
    pool.total_memories(instances * 2); // most components have one memory, composed ones a few
    pool.total_tables(instances * CORE_INSTANCES_PER_COMPONENT);
    pool.total_stacks(instances);
    pool.max_core_instances_per_component(CORE_INSTANCES_MAX);
    pool.max_memories_per_component(MEMORIES_MAX);
    pool.max_tables_per_component(TABLES_MAX);
    pool.max_core_instance_size(4 << 20); // a check only: 32 bytes a function, for tables at their ceiling
    pool.max_component_instance_size(4 << 20);
    pool.max_memories_per_module(MEMORIES_MAX);
    pool.max_tables_per_module(4); // most have one, some toolchains two
    pool.table_elements(table_elements_max()); // the meter holds each instance to its own limit
    pool.max_memory_size(memory_bytes_max()); // likewise
    pool.linear_memory_keep_resident(1 << 20); // covers what a small guest touches
    pool.table_keep_resident(64 << 10);
    pool.max_unused_warm_slots(100); // bounds what idle slots keep of the machine's memory
    pool.decommit_batch_size(1); // a slot gives its memory back at once: batches hold it beyond any budget, and gain nothing measurable
    pool.pagemap_scan(Enabled::Auto); // clean only pages that were touched, where the kernel can tell
    pool
}

/// The largest memory that any component can be granted.
pub(crate) fn memory_bytes_max() -> usize {
    usize::try_from(limits::MEMORY.ceiling).unwrap_or(usize::MAX)
}

fn table_elements_max() -> usize {
    usize::try_from(limits::TABLE_ELEMENTS.ceiling).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_flavors_build_and_refuse_what_is_switched_off() {
        for flavor in [Flavor::Sync, Flavor::Async] {
            let (engine, _) = new(flavor, true).unwrap();
            for refused in ["(module (memory i64 1))", "(module (memory 1 1 shared))"] {
                let binary = wat::parse_str(refused).unwrap();
                assert!(
                    wasmtime::Module::validate(&engine, &binary).is_err(),
                    "{flavor:?} accepts {refused}"
                );
            }
            assert!(
                wasmtime::Module::validate(
                    &engine,
                    &wat::parse_str("(module (memory 1))").unwrap()
                )
                .is_ok()
            );
        }
    }

    #[test]
    fn the_two_flavors_never_share_compiled_code() {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let key = |flavor| {
            let mut hasher = DefaultHasher::new();
            new(flavor, true)
                .unwrap()
                .0
                .precompile_compatibility_hash()
                .hash(&mut hasher);
            hasher.finish()
        };
        assert_ne!(key(Flavor::Sync), key(Flavor::Async));
    }
}
