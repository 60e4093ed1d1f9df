//! The contract of key-value stores. A driver is one line here, and passes every case of `kv/cases.rs`, `kv/races.rs` and
//! `kv/apart.rs`. What only one driver promises is in a file of its own.

mod apart;
mod cases;
mod embedded;
mod races;
mod subject;

use subject::{Subject, run};

/// All cases against one driver: its name, and an async function that makes a [`Subject`].
macro_rules! contract {
    ($driver:ident, $make:path) => {
        mod $driver {
            use super::*;

            contract!(@cases $make, cases:
                what_is_not_there,
                what_is_written_is_read,
                keys_of_any_characters,
                a_key_or_value_beyond_the_largest_is_refused,
                prefixes_mean_themselves,
                pages_cover_everything,
                what_stays_is_listed_while_others_come_and_go,
                foreign_cursors_are_refused,
                writes_with_conditions,
                a_value_that_came_back_has_changed,
                increments,
                no_number_is_not_incremented,
                a_time_to_live_ends,
                a_time_to_live_is_replaced,
                an_increment_keeps_the_time_to_live,
                several_at_once,
                it_can_be_checked,
            );
            contract!(@cases $make, races:
                every_increment_counts,
                one_of_many_wins,
                compare_and_swap_loses_nothing,
                a_write_is_seen_by_all_handles,
                values_are_never_torn,
                dropped_calls_leave_whole_values,
            );
            contract!(@cases $make, apart:
                scopes_do_not_meet,
                scopes_are_as_apart_as_maps,
            );
        }
    };
    (@cases $make:path, $part:ident: $($case:ident,)*) => {
        $(#[test]
        fn $case() {
            run($make, super::$part::$case);
        })*
    };
}

contract!(memory, Subject::memory);
contract!(embedded_durable, Subject::embedded);
contract!(embedded_buffered, Subject::embedded_buffered);
contract!(redis, Subject::redis);
contract!(nats, Subject::nats);
