//! Every bound of the product, in one table: name, unit, default, floor, ceiling, and the test that proves it.
//!
//! The first part of the table is the budget of one component: those entries carry the key that a manifest uses in
//! `[component.NAME.limits]` and the command line in `--limit KEY=VALUE`, and [`Limits`] holds their values. The rest
//! bounds the process, its connections and what is read from disk. This file enforces nothing: the code that owns a
//! queue, cache, body or task reads its bound here.

pub use crate::budget::{LimitError, Limits};
pub use crate::limit::{Limit, Unit};
pub use crate::unit::UnitError;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

/// Declares each entry once: as a constant, in its documentation and in [`ALL`], so that none can be forgotten.
macro_rules! table {
    ($( $(#[doc = $doc:literal])+ $id:ident = $name:literal, $unit:ident, $default:expr, [$floor:expr, $ceiling:expr], $test:literal; )+) => {
        $(
            $(#[doc = $doc])+
            pub const $id: Limit = Limit {
                name: $name,
                unit: Unit::$unit,
                default: $default,
                floor: $floor,
                ceiling: $ceiling,
                doc: concat!($($doc),+).trim_ascii(),
                test: $test,
            };
        )+
        /// Every entry of the table, in its order.
        pub const ALL: &[&Limit] = &[$(&$id),+];
    };
}

table! {
    // The budget of one component.

    /// Linear memory of one instance, summed over all its memories; growing beyond it fails inside the guest.
    MEMORY = "memory", Bytes, 128 * MIB, [64 * KIB, GIB], "tests/limits::memory";
    /// Elements of one instance's tables, summed over all of them.
    TABLE_ELEMENTS = "table_elements", Count, 20_000, [0, 100_000], "tests/limits::table_elements";
    /// Wall clock of one call, from its start until the guest has finished.
    DEADLINE = "deadline", Milliseconds, 30 * SECOND, [10, HOUR], "tests/limits::deadline";
    /// CPU time of one call.
    CPU = "cpu", Milliseconds, 2 * SECOND, [1, 10 * MINUTE], "tests/limits::cpu";
    /// Calls of one component in flight at once; more of them wait.
    CONCURRENCY = "concurrency", Count, 64, [1, 10_000], "tests/limits::concurrency";
    /// How long a call waits for its turn before the answer is 503 with Retry-After.
    QUEUE_WAIT = "queue_wait", Milliseconds, SECOND, [0, MINUTE], "tests/limits::queue_wait";
    /// Calls that may wait at once; one more is answered 503 with Retry-After immediately.
    QUEUE_DEPTH = "queue_depth", Count, 1024, [0, 100_000], "tests/limits::queue_depth";
    /// Bytes that one call from the guest into the host may make the host copy.
    HOST_CALL = "host_call", Bytes, 8 * MIB, [4 * KIB, 128 * MIB], "tests/limits::host_call";
    /// Handles (resources, streams, futures, tasks) that the component model keeps for one instance.
    HANDLES = "handles", Count, 10_000, [64, 100_000], "tests/limits::handles";
    /// Host objects (descriptors, headers, bodies, sockets) that one instance may hold.
    RESOURCES = "resources", Count, 1024, [64, 100_000], "tests/limits::resources";
    /// Size of one set of header fields that the guest builds.
    HEADERS = "headers", Bytes, 64 * KIB, [KIB, 128 * KIB], "tests/limits::headers";
    /// Header fields, and buffers of bodies that it writes, that one call may make the host keep: 96 bytes for a field
    /// besides its name and value, 64 KiB for a body.
    HOST_BYTES = "host_bytes", Bytes, 8 * MIB, [64 * KIB, 128 * MIB], "tests/limits::host_bytes";
    /// Bytes of blobs that the host holds for one instance: written before it is known where they go, or read at once; more
    /// fails inside the guest.
    BLOB_BYTES = "blob_bytes", Bytes, 8 * MIB, [64 * KIB, 128 * MIB], "tests/limits::blob_bytes";
    /// How long one statement of a database may run, its rows included; a longer one is stopped and fails inside the guest.
    SQL_TIMEOUT = "sql_timeout", Milliseconds, 10 * SECOND, [10, HOUR], "tests/limits::sql_timeout";
    /// Random bytes that one call may ask for.
    RANDOM = "random", Bytes, 64 * KIB, [64, MIB], "tests/limits::random";
    /// Size of one request body. Bodies stream in small chunks, so this bounds time and traffic, not memory.
    REQUEST_BODY = "request_body", Bytes, GIB, [0, TIB], "tests/limits::request_body";
    /// Size of one response body; an answer that grows beyond it is cut off.
    RESPONSE_BODY = "response_body", Bytes, GIB, [0, TIB], "tests/limits::response_body";
    /// Outgoing HTTP requests, connects, binds, datagrams and name look-ups that one call may start; one more fails inside
    /// the guest.
    OUTBOUND = "outbound", Count, 100, [0, 10_000], "tests/limits::outbound";
    /// Outgoing HTTP requests and sockets that the app may have open at once for this component to begin another; one
    /// more fails inside the guest.
    OUTBOUND_OPEN = "outbound_open", Count, 64, [0, 10_000], "tests/limits::outbound_open";
    /// Operations on key-value stores, blobs, databases and messages that one call may make; one more fails inside the guest.
    STORE_CALLS = "store_calls", Count, 10_000, [0, 1_000_000_000], "tests/limits::store_calls";
    /// Bytes that one call may move to and from stores, in both directions together; more fails inside the guest.
    STORE_BYTES = "store_bytes", Bytes, GIB, [0, TIB], "tests/limits::store_bytes";
    /// Size of one key of a key-value store; a longer one fails inside the guest.
    STORE_KEY = "store_key", Bytes, KIB, [16, 128 * KIB], "tests/limits::store_key";
    /// Size of one value that the guest writes to a key-value store; a larger one fails inside the guest.
    STORE_VALUE = "store_value", Bytes, MIB, [KIB, 128 * MIB], "tests/limits::store_value";
    /// New outgoing connections in one second, with a second's worth at once, that the app may have made for this component
    /// to make another; it waits for its turn, and fails inside the guest where that takes longer than a connection may.
    OUTBOUND_RATE = "outbound_rate", Count, 50, [1, 10_000], "tests/limits::outbound_rate";
    /// Answers that an instance may hold of `wasi_experimental_http`; with so many open, a request fails inside the guest.
    HTTP_SESSIONS = "http_sessions", Count, 42, [0, 1024], "tests/functional/calls.rs::an_instance_holds_so_many_answers_and_no_more";

    // How an instance is used again: keys beside the limits, `reuse` and `concurrent` of a component.

    /// Requests that one instance answers before it is dropped; 1 is a fresh instance for each request.
    REUSE = "reuse", Count, 1, [1, 1_000_000], "crates/app/tests/golden.rs::every_message_has_its_golden_file";
    /// Requests that one instance may have in flight at once.
    CONCURRENT = "concurrent", Count, 1, [1, 10_000], "crates/app/tests/golden.rs::every_message_has_its_golden_file";

    // Guests, whole process.

    /// Memory of all guests together, beyond the first 2 MiB of each instance; no component gets more than three quarters.
    /// The default is half of the machine's memory where that is less.
    MEMORY_TOTAL = "memory_total", Bytes, 4 * GIB, [16 * MIB, 16 * TIB], "tests/limits::memory_total";
    /// Instances that exist at once, over all components.
    INSTANCES_MAX = "instances", Count, 1000, [1, 100_000], "tests/limits::instances";
    /// How long an instance that may answer again waits for its next request before it is dropped.
    IDLE_INSTANCE_MS = "idle_instance", Milliseconds, MINUTE, [SECOND, HOUR], "crates/host/src/pool/idle.rs::an_instance_that_was_idle_for_too_long_is_not_used_again";
    /// Stack of one running guest; deeper recursion is a trap.
    WASM_STACK_BYTES = "wasm_stack", Bytes, 512 * KIB, [64 * KIB, MIB], "tests/limits::wasm_stack";
    /// How often running guests are interrupted to check deadline and CPU.
    EPOCH_TICK_MS = "epoch_tick", Milliseconds, 5, [1, 50], "tests/limits::epoch_tick";
    /// CPU that a call may use among the short ones; a longer one goes on at low priority, shared fairly between apps.
    SLICE_MS = "slice", Milliseconds, 5, [1, 50], "tests/limits::slice";
    /// One piece of a streamed body, in either direction.
    STREAM_CHUNK_BYTES = "stream_chunk", Bytes, 64 * KIB, [4 * KIB, MIB], "tests/limits::stream_chunk";
    /// Head of the answer that a program prints, without its CR; a longer one is refused, and the program ended.
    CGI_HEAD = "cgi_head", Bytes, 64 * KIB, [KIB, MIB], "tests/faults/cgi.rs::a_head_is_bounded";
    /// Bytes of its answer's body by which a program may be ahead of its client; then it waits.
    CGI_AHEAD = "cgi_ahead", Bytes, 64 * KIB, [4 * KIB, MIB], "tests/faults/cgi.rs::a_program_that_writes_forever_waits_for_its_client";
    /// What the export `_routes` of a module may print.
    CGI_ROUTES = "cgi_routes", Bytes, 64 * KIB, [KIB, MIB], "tests/faults/cgi.rs::routes_of_its_own_are_bounded";
    /// One line of guest output; the rest of a longer line is cut off.
    LOG_LINE_BYTES = "log_line", Bytes, 64 * KIB, [256, MIB], "tests/limits::log_line";
    /// Lines of guest output waiting to be written; no app may have more of them waiting than are free. Further ones are
    /// dropped and counted.
    LOG_QUEUE_LINES = "log_queue", Count, 4096, [16, 1_000_000], "tests/limits::log_queue";
    /// Bytes of guest output waiting to be written; no app may have more of them waiting than are free. Further lines
    /// are dropped and counted.
    LOG_QUEUE_BYTES = "log_queue_bytes", Bytes, 8 * MIB, [64 * KIB, GIB], "crates/host/src/capability/log.rs::few_long_lines_are_bounded_by_bytes";
    /// Output of one app's guests, with a second's worth at once; further lines are dropped, counted, and the count is
    /// reported. A line counts as 32 bytes more than it has.
    LOG_RATE = "log_rate", BytesPerSecond, MIB, [KIB, GIB], "tests/limits::log_rate";
    /// Lines about faults in one second, for each app and for the host; further ones are counted, and the count is
    /// reported.
    FAULT_LINES = "fault_lines", Count, 10, [1, 1000], "crates/host/src/capability/fault_log.rs::a_flood_is_cut_to_a_few_lines_and_counted";
    /// Grants of one component of which the log says that they are missing, each once.
    DENIED_LINES = "denied_lines", Count, 32, [1, 1000], "crates/host/src/capability/denied.rs::each_missing_grant_is_told_once_up_to_a_point";

    // Key-value stores, as guests have them.

    /// Keys of one page of a listing; a store may give up to twice as many.
    STORE_PAGE = "store_page", Count, 500, [1, 10_000], "tests/limits::store_page";
    /// Keys, or keys and values, of one batch operation; a larger one fails inside the guest.
    STORE_BATCH = "store_batch", Count, 1000, [1, 100_000], "tests/limits::store_batch";
    /// Listings that one open bucket of the first draft of `wasi:keyvalue` can be asked to continue, the newest ones.
    STORE_CURSORS = "store_cursors", Count, 16, [1, 1000], "tests/limits::store_cursors";
    /// Rows that a guest gets at once, however many it asks for.
    SQL_ROWS = "sql_rows", Count, 1000, [1, 100_000], "tests/limits::sql_rows";
    /// Bytes in the rows that a guest gets at once, unless one row has more.
    SQL_BATCH_BYTES = "sql_batch", Bytes, MIB, [KIB, 128 * MIB], "tests/limits::sql_rows";
    /// Size of one embedded database; a statement that needs more fails inside the guest.
    SQL_DATABASE_BYTES = "sql_database", Bytes, GIB, [64 * KIB, TIB], "crates/stores/tests/sql/hostile.rs::a_database_has_a_size_and_so_have_its_temporary_files";
    /// Size of one value, row or statement of an embedded database; a larger one fails inside the guest.
    SQL_VALUE_BYTES = "sql_value", Bytes, 16 * MIB, [64 * KIB, 128 * MIB], "crates/stores/tests/sql/hostile.rs::a_database_has_a_size_and_so_have_its_temporary_files";
    /// Temporary files of one statement of an embedded database, to sort for example; one that needs more fails inside the
    /// guest.
    SQL_TEMPORARY_BYTES = "sql_temporary", Bytes, 256 * MIB, [MIB, TIB], "crates/stores/tests/sql/hostile.rs::a_database_has_a_size_and_so_have_its_temporary_files";
    /// Statements of one embedded database that read at once; others wait for their turn.
    SQL_READERS = "sql_readers", Count, 4, [1, 100], "crates/stores/tests/sql.rs::a_statement_is_stopped_when_its_time_is_over";
    /// Connections to one PostgreSQL database; who needs one more waits.
    SQL_CONNECTIONS = "sql_connections", Count, 16, [1, 1000], "crates/stores/tests/sql.rs::a_statement_is_stopped_when_its_time_is_over";
    /// How long a transaction may be open; then it is rolled back.
    SQL_TRANSACTION_MS = "sql_transaction", Milliseconds, 30 * SECOND, [10, HOUR], "crates/stores/tests/sql.rs::a_transaction_that_is_left_open_ends_by_itself";
    /// How long a connection to a database is kept that nobody uses.
    SQL_IDLE_MS = "sql_idle", Milliseconds, MINUTE, [10, HOUR], "crates/stores/tests/sql/hostile.rs::connections_that_nobody_uses_are_closed";

    // Messages.

    /// One message, its topic and metadata included; a larger one is refused.
    MESSAGE_BYTES_MAX = "message", Bytes, MIB, [KIB, 64 * MIB], "tests/functional/messages.rs::what_a_message_may_be_is_bounded";
    /// Messages of one app and label that some group has not settled, for the brokers without a server; one more is
    /// refused.
    MESSAGE_BACKLOG = "message_backlog", Count, 100_000, [100, 10_000_000], "crates/stores/tests/messaging/local.rs::a_backlog_has_an_end_and_says_whose_it_is";
    /// Bytes of those messages.
    MESSAGE_BACKLOG_BYTES = "message_backlog_bytes", Bytes, 64 * MIB, [MIB, 16 * GIB], "crates/stores/tests/messaging/local.rs::bytes_are_bounded_too";
    /// How long a group without a subscriber is remembered once there is no room for more messages.
    MESSAGE_FORGET_MS = "message_forget", Milliseconds, 7 * 24 * HOUR, [HOUR, 365 * 24 * HOUR], "crates/stores/tests/messaging/local.rs::a_group_that_never_comes_back_is_forgotten_when_there_is_no_room";
    /// Topics that one group subscribes to, for the brokers without a server: guests that fetch messages themselves choose
    /// their topics. One more is refused.
    MESSAGE_GROUP_TOPICS = "message_group_topics", Count, 10_000, [1000, 100_000], "crates/stores/tests/messaging/local.rs::the_topics_of_a_group_are_bounded";
    /// Messages of one `[[message]]` that its component works on at once.
    MESSAGE_CONCURRENCY = "message_concurrency", Count, 16, [1, 1000], "tests/functional/messages.rs::no_more_messages_are_in_flight_than_the_trigger_says";
    /// Messages of one ordered `[[message]]` that wait in this process behind others of their key; more stay with the broker.
    MESSAGE_LINE = "message_line", Count, 256, [1, 10_000], "tests/functional/messages/order.rs::a_crowd_of_one_key_waits_and_then_holds_up_others";
    /// How often a message is delivered, where the manifest does not say, until it is given up.
    MESSAGE_DELIVERIES = "message_deliveries", Count, 5, [1, 1000], "tests/functional/messages.rs::a_message_that_is_never_taken_goes_to_the_dead_letters";
    /// Pause before a message that failed is delivered again; doubled with each further delivery.
    MESSAGE_BACK_OFF_MS = "message_back_off", Milliseconds, 100, [1, MINUTE], "crates/stores/tests/messaging/redelivery.rs::what_was_refused_comes_again_and_is_counted";
    /// The longest such pause.
    MESSAGE_BACK_OFF_MAX_MS = "message_back_off_max", Milliseconds, 30 * SECOND, [1, HOUR], "crates/stores/tests/messaging/redelivery.rs::what_was_refused_comes_again_and_is_counted";
    /// Answers that one request takes at the most.
    REPLIES_MAX = "replies", Count, 100, [1, 1000], "tests/functional/messages.rs::a_request_takes_no_more_answers_than_it_may";
    /// How long a request of a guest waits for its answers where it does not say.
    REQUEST_TIMEOUT_MS = "request_timeout", Milliseconds, 5 * SECOND, [SECOND, MINUTE], "tests/functional/messages.rs::a_request_that_nobody_answers_ends";

    // Messages that an instance fetches itself.
    /// Topics that one instance may have subscribed to; one more fails inside the guest.
    INSTANCE_SUBSCRIPTIONS = "instance_subscriptions", Count, 64, [1, 1024], "tests/functional/calls.rs::an_instance_reads_so_many_topics_and_no_more";
    /// How long a read waits for a message that may be on its way.
    INSTANCE_READ_WAIT_MS = "instance_read_wait", Milliseconds, 50, [1, SECOND], "tests/functional/calls.rs::original_guests_speak_through_the_app_s_broker";
    /// How long an instance may take until it asks for the next message; after that it is delivered again.
    INSTANCE_ACK_WAIT_MS = "instance_ack_wait", Milliseconds, MINUTE, [SECOND, HOUR], "tests/functional/calls.rs::original_guests_speak_through_the_app_s_broker";
    /// How long one exchange with a guest that keeps the messages may take.
    BROKER_GUEST_MS = "broker_guest", Milliseconds, 5 * SECOND, [1, MINUTE], "tests/functional/calls.rs::a_broker_guest_that_says_nothing_is_not_waited_for_for_ever";

    // Modules of serverless-wasm.
    /// Connections that a module of serverless-wasm may have open in one request; for one more it is told -2.
    HANDLE_CONNECTIONS = "handle_connections", Count, 100, [1, 1024], "tests/faults/handle.rs::connections_that_are_never_closed_have_an_end";
    /// Files that a module of serverless-wasm may have open in one request; for one more it is told -2.
    HANDLE_FILES = "handle_files", Count, 64, [1, 1024], "tests/functional/handle.rs::a_module_has_so_many_files_open_and_no_more";

    // Guests that call guests.
    /// Calls of one guest by another of its app that may lie one behind the other, over HTTP and through imports together;
    /// one more fails inside the guest.
    CALL_DEPTH = "call_depth", Count, 8, [1, 8], "tests/limits::call_depth";
    // Schedules.

    /// Length of one cron expression.
    CRON_EXPRESSION_BYTES_MAX = "cron_expression", Bytes, 256, [16, KIB], "crates/app/src/schedule/tests.rs::expressions_are_bounded";
    /// How much later than its time a run begins at the most, where the manifest does not say.
    CRON_JITTER_MS = "cron_jitter", Milliseconds, 0, [0, 24 * HOUR], "crates/app/tests/golden.rs::every_message_has_its_golden_file";
    /// Runs of one app's schedules in flight at once; further ones begin when others have ended.
    CRON_RUNS = "cron_runs", Count, 64, [1, 1000], "crates/server/src/cron/tests.rs::no_more_runs_are_in_flight_than_may_be";
    /// Times of one schedule that wait for their run, because the last one is still going or because they were missed; further
    /// ones are left out.
    CRON_WAITING = "cron_waiting", Count, 100, [1, 10_000], "crates/server/src/cron/tests.rs::no_more_times_wait_than_may_wait";
    /// How late a run may begin, beyond its jitter, until its time counts as missed.
    CRON_LATE_MS = "cron_late", Milliseconds, 10 * SECOND, [SECOND, HOUR], "crates/server/src/cron/tests.rs::a_time_that_is_a_little_late_is_not_missed";
    /// How often the system's clock is looked at while no run is due: it may have been set.
    CRON_LOOK_MS = "cron_look", Milliseconds, 30 * SECOND, [SECOND, 5 * MINUTE], "crates/server/src/cron/tests.rs::a_clock_that_is_set_is_noticed";
    /// How long a run waits for a place for its instance until it is given up.
    CRON_PATIENCE_MS = "cron_patience", Milliseconds, MINUTE, [SECOND, HOUR], "crates/host/src/abi/job.rs::a_turn_is_waited_for_and_no_longer_than_that";

    // Services.

    /// How often a service, which is one call that does not end, has the budget of a call for stores and the network anew.
    SERVICE_REFILL_MS = "service_refill", Milliseconds, SECOND, [10, HOUR], "crates/host/src/abi/service/tests.rs::a_service_has_the_budget_of_a_call_anew_in_every_period";
    /// Connections that preview-1 services have accepted, over all of them; one more fails inside the guest.
    SERVICE_CONNECTIONS = "service_connections", Count, 4096, [1, 1_000_000], "crates/host/src/p1/tests/calls.rs::there_are_no_more_connections_than_all_services_may_hold";
    /// Clocks, files and sockets that a preview-1 service waits for with one call; a call with more fails inside the guest.
    POLL_SUBSCRIPTIONS = "poll_subscriptions", Count, 8192, [64, 65_536], "crates/host/src/p1/tests/calls.rs::a_call_waits_for_so_many_things_and_no_more";

    // The control socket of a running app.
    /// Who is answered at once on the control socket; others wait.
    CONTROL_CONNECTIONS = "control_connections", Count, 8, [1, 1000], "tests/functional/calls.rs::a_control_socket_answers_its_callers_in_turns";
    /// Size of a request on the control socket; a larger one is refused.
    CONTROL_REQUEST_BYTES = "control_request", Bytes, MIB, [KIB, 64 * MIB], "tests/functional/calls.rs::a_request_that_is_too_long_is_refused";
    /// How long a caller on the control socket may take to say what it wants, and to take the answer.
    CONTROL_PATIENCE_MS = "control_patience", Milliseconds, 5 * SECOND, [SECOND, MINUTE], "tests/functional/calls.rs::a_control_socket_answers_its_callers_in_turns";

    // Compiling one guest, in a process of its own.

    /// CPU time of one compilation for each MiB of the guest's functions, a begun one counting whole, and of each function
    /// no more than 512 KiB; beyond it the guest is refused.
    COMPILE_CPU_PER_MIB_MS = "compile_cpu_per_mib", Milliseconds, 5 * SECOND, [SECOND, HOUR], "tests/limits::compile_cpu_per_mib";
    /// CPU time of one compilation, however large the guest is; beyond it the guest is refused.
    COMPILE_CPU_MS = "compile_cpu", Milliseconds, 2 * MINUTE, [SECOND, HOUR], "tests/limits::compile_cpu";
    /// Memory that one compilation may allocate; a guest that takes more is refused.
    COMPILE_MEMORY_BYTES = "compile_memory", Bytes, 960 * MIB, [64 * MIB, 64 * GIB], "tests/limits::compile_memory";
    /// Wall clock of one compilation, which may wait for a busy machine; beyond it the guest is refused.
    COMPILE_TIME_MS = "compile_time", Milliseconds, 5 * MINUTE, [SECOND, HOUR], "tests/limits::compile_time";
    /// Size of one guest's machine code; a guest with more is refused.
    ARTIFACT_BYTES_MAX = "artifact", Bytes, 512 * MIB, [MIB, 4 * GIB], "tests/limits::artifact";

    // What guests dial.

    /// How long it may take until an outgoing connection is ready: name, dial, TLS; `connect_timeout` in
    /// `server.toml` says otherwise. A guest may ask for less.
    CONNECT_TIMEOUT_MS = "connect_timeout", Milliseconds, 5 * SECOND, [10, MINUTE], "crates/host/src/net/tests/times.rs::a_server_that_does_not_answer_the_handshake";
    /// How long an outgoing HTTP request may take, its answer's body included; `total_timeout` in `server.toml`
    /// says otherwise. A guest may ask for less.
    OUTBOUND_TIMEOUT_MS = "outbound_timeout", Milliseconds, 30 * SECOND, [10, HOUR], "crates/host/src/net/tests/times.rs::an_answer_that_does_not_end";
    /// Addresses of one name that are tried, one after the other.
    DIAL_ATTEMPTS = "dial_attempts", Count, 4, [1, 16], "crates/host/src/net/tests/rebinding.rs::only_so_many_addresses_are_tried";
    /// Name look-ups of one app that are made at once; further ones wait.
    LOOKUPS = "lookups", Count, 16, [1, 256], "crates/host/src/net/resolve.rs::only_so_many_look_ups_are_made_at_once";
    /// Idle outgoing connections of one app to one server that are kept for the next request.
    OUTBOUND_IDLE = "outbound_idle", Count, 64, [0, 10_000], "crates/host/src/net/pool.rs::idle_connections_are_bounded";
    /// The same over all apps and servers.
    OUTBOUND_IDLE_TOTAL = "outbound_idle_total", Count, 1024, [0, 100_000], "crates/host/src/net/pool.rs::idle_connections_are_bounded";
    /// How long an outgoing connection is kept idle.
    OUTBOUND_IDLE_MS = "outbound_idle_time", Milliseconds, 30 * SECOND, [10, HOUR], "crates/host/src/net/tests/reuse.rs::an_idle_connection_is_closed_after_a_while";

    // Connections.

    /// Open connections over all listeners; one more is answered 503 and closed.
    CONNECTIONS_TOTAL = "connections", Count, 10_000, [1, 1_000_000], "crates/server/src/tests/lifecycle.rs::connections_beyond_the_total_are_turned_away_and_seats_come_back";
    /// Open connections of one IPv4 address or one IPv6 network of 64 bits; one more is answered 503 and closed.
    CONNECTIONS_PER_ADDRESS = "connections_per_address", Count, 2_500, [1, 1_000_000], "tests/limits::connections_per_address";
    /// Clients beyond these two bounds that may stay until they have read their 503; one more is closed at once.
    TURNED_AWAY = "turned_away", Count, 64, [0, 10_000], "crates/server/src/tests/clients.rs::a_crowd_that_is_turned_away_holds_nothing";
    /// Connections that the kernel keeps for one listening socket until they are accepted; others have to try again.
    BACKLOG = "backlog", Count, 1024, [1, 65_535], "crates/server/src/listen.rs::connections_beyond_the_backlog_are_not_made";
    /// Request line and header fields together; more is answered 431.
    HEAD_BYTES = "head", Bytes, 16 * KIB, [KIB, 256 * KIB], "tests/limits::head";
    /// Header fields of one request; more is answered 431.
    HEADERS_COUNT = "head_fields", Count, 100, [1, 1000], "tests/limits::head_fields";
    /// From the first byte of a request until its head is complete.
    HEAD_TIMEOUT_MS = "head_timeout", Milliseconds, 10 * SECOND, [10, 10 * MINUTE], "tests/limits::head_timeout";
    /// Silence on a connection between two requests before it is closed.
    IDLE_TIMEOUT_MS = "idle_timeout", Milliseconds, MINUTE, [10, HOUR], "crates/server/src/tests/http1.rs::silence_between_requests_has_its_own_time";
    /// Silence inside a request body before the connection is closed.
    BODY_STALL_MS = "body_stall", Milliseconds, 30 * SECOND, [10, 10 * MINUTE], "crates/server/src/tests/http1.rs::a_body_that_stalls_is_answered_408";
    /// The slowest request body that is accepted once it has lasted as long as `head_timeout`.
    BODY_RATE = "body_rate", BytesPerSecond, KIB, [0, MIB], "tests/limits::body_rate";
    /// How long a client may refuse to read its response before the connection is closed.
    WRITE_STALL_MS = "write_stall", Milliseconds, 10 * SECOND, [10, 10 * MINUTE], "crates/server/src/tests/http1.rs::a_client_that_does_not_read_is_cut_off";
    /// How long a client that is still sending when its request was refused may read the refusal.
    LINGER_MS = "linger", Milliseconds, 2 * SECOND, [0, MINUTE], "crates/server/src/tests/http1.rs::a_refused_client_may_go_on_sending_for_a_moment";
    /// Buffer of one connection's incoming bytes.
    READ_BUFFER_BYTES = "read_buffer", Bytes, 64 * KIB, [8 * KIB, MIB], "tests/limits::read_buffer";
    /// Streams of one HTTP/2 connection in flight at once.
    H2_STREAMS = "h2_streams", Count, 100, [1, 1000], "tests/limits::h2_streams";
    /// Bytes of one HTTP/2 request body that may be sent before the guest has read any: what one slow guest can hold.
    H2_STREAM_WINDOW_BYTES = "h2_stream_window", Bytes, 128 * KIB, [16 * KIB, 16 * MIB], "tests/limits::h2_stream_window";
    /// The same for all streams of one HTTP/2 connection together: several slow guests do not hold up the others.
    H2_CONNECTION_WINDOW_BYTES = "h2_connection_window", Bytes, MIB, [64 * KIB, 64 * MIB], "tests/limits::h2_connection_window";
    /// HTTP/2 frames in one second that carry nothing of a request (PING, SETTINGS, PRIORITY, WINDOW_UPDATE, RST_STREAM),
    /// beyond four for each frame of an answer; one more closes the connection.
    H2_CONTROL_FRAMES = "h2_control_frames", Count, 1_000, [10, 1_000_000], "tests/limits::h2_control_frames";
    /// Header list of one HTTP/2 request.
    H2_HEADER_LIST_BYTES = "h2_header_list", Bytes, 16 * KIB, [KIB, 256 * KIB], "tests/limits::h2_header_list";
    /// Streams of one HTTP/2 connection that were reset before they were accepted; one more closes the connection.
    H2_RESETS = "h2_resets", Count, 20, [1, 1000], "tests/limits::h2_resets";
    /// Streams of one HTTP/2 connection, over its whole life, that ended because the client broke the protocol or
    /// opened more of them than it may; one more closes the connection. The count never falls, so a client that errs now
    /// and then has to connect again some day.
    H2_LOCAL_RESETS = "h2_local_resets", Count, 128, [1, 1024], "crates/server/src/tests/http2.rs::a_client_that_makes_us_reset_its_streams_is_sent_away";
    /// Response bytes buffered for one HTTP/2 stream.
    H2_SEND_BUFFER_BYTES = "h2_send_buffer", Bytes, 64 * KIB, [16 * KIB, MIB], "tests/limits::h2_send_buffer";
    /// Silence on an HTTP/2 connection before it is asked whether it still lives.
    H2_KEEPALIVE_MS = "h2_keepalive", Milliseconds, 20 * SECOND, [SECOND, HOUR], "crates/server/src/tests/http2.rs::a_client_that_does_not_answer_a_ping_is_gone";
    /// How long an HTTP/2 client may take to acknowledge that its idle connection ends.
    H2_GOODBYE_MS = "h2_goodbye", Milliseconds, SECOND, [0, MINUTE], "crates/server/src/tests/http2.rs::a_client_that_ignores_the_farewell_is_left";
    /// How long requests in flight may take to finish after the signal to stop.
    DRAIN_MS = "drain", Milliseconds, 30 * SECOND, [0, HOUR], "crates/server/src/tests/lifecycle.rs::a_drain_ends_in_time_and_tells_what_it_cut_off";
    /// Connections to the metrics' own listener at once; one more waits until it is accepted.
    METRICS_CONNECTIONS = "metrics_connections", Count, 8, [1, 1000], "tests/limits::metrics_connections";
    /// How long one connection to the metrics' own listener may last.
    METRICS_TIMEOUT_MS = "metrics_timeout", Milliseconds, 5 * SECOND, [SECOND, MINUTE], "tests/limits::metrics_timeout";

    // The supervisor (`hostel up --supervise`).

    /// Pause before a worker process that died twice in a row is started again, doubled with each further death; the first
    /// restart is at once.
    RESTART_PAUSE_MS = "restart_pause", Milliseconds, 100, [10, MINUTE], "crates/server/src/restarts.rs::the_pause_grows_to_its_bound";
    /// The longest pause before a restart.
    RESTART_PAUSE_MAX_MS = "restart_pause_max", Milliseconds, 30 * SECOND, [SECOND, HOUR], "crates/server/src/restarts.rs::the_pause_grows_to_its_bound";
    /// How long a worker process has to serve until the deaths before it are forgotten.
    RESTART_HEALTHY_MS = "restart_healthy", Milliseconds, MINUTE, [SECOND, HOUR], "crates/server/src/restarts.rs::deaths_are_forgotten_after_a_time_of_health";

    // Services.

    /// Addresses that one service listens on.
    SERVICE_LISTEN = "service_listen", Count, 16, [1, 64], "crates/app/tests/services.rs::a_service_listens_on_so_many_addresses";
    /// Guests of one service that run at once; the default is one.
    SERVICE_INSTANCES = "service_instances", Count, 1, [1, 64], "crates/app/tests/services.rs::what_makes_no_sense_says_what_would";
    /// How much of one core a service may use over time, in percent, where the manifest says; it waits where it used more.
    SERVICE_CPU_PERCENT = "cpu_percent", Count, 100, [1, 100], "tests/faults/services.rs::a_service_uses_no_more_cpu_than_it_may";
    /// How long a service may take to end when it is told to, where the manifest does not say; then it is cut off.
    SERVICE_STOP_MS = "stop_timeout", Milliseconds, 10 * SECOND, [0, 25 * SECOND], "tests/faults/services.rs::a_service_that_does_not_stop_is_cut_off";
    /// How long a server that starts waits for its services; then it starts without those that are not ready.
    SERVICE_READY_MS = "service_ready", Milliseconds, 5 * SECOND, [0, 10 * MINUTE], "tests/faults/services.rs::a_service_that_is_never_ready_holds_the_start_up_for_a_while_only";
    /// Pause before a service that ended is started again; doubled with each further end.
    SERVICE_PAUSE_MS = "service_pause", Milliseconds, 100, [10, MINUTE], "crates/server/src/service/policy.rs::the_pause_grows_until_the_service_has_run_for_a_while";
    /// The longest such pause, unless the service is in a crash loop.
    SERVICE_PAUSE_MAX_MS = "service_pause_max", Milliseconds, 30 * SECOND, [SECOND, HOUR], "crates/server/src/service/policy.rs::the_pause_grows_until_the_service_has_run_for_a_while";
    /// How long a service has to run until the ends before it are forgotten.
    SERVICE_HEALTHY_MS = "service_healthy", Milliseconds, 10 * SECOND, [SECOND, HOUR], "crates/server/src/service/policy.rs::the_pause_grows_until_the_service_has_run_for_a_while";
    /// Ends of one service within `service_crash_window` after which it is in a crash loop.
    SERVICE_CRASHES = "service_crashes", Count, 5, [2, 1000], "crates/server/src/service/policy.rs::ends_in_a_short_time_are_a_crash_loop";
    /// See `service_crashes`.
    SERVICE_CRASH_WINDOW_MS = "service_crash_window", Milliseconds, MINUTE, [SECOND, HOUR], "crates/server/src/service/policy.rs::ends_in_a_short_time_are_a_crash_loop";
    /// Pause between two starts of a service in a crash loop; it is never given up.
    SERVICE_CRASH_PAUSE_MS = "service_crash_pause", Milliseconds, MINUTE, [SECOND, HOUR], "crates/server/src/service/policy.rs::a_crash_loop_is_tried_again_slowly_and_can_be_left";

    // Live replacement (`hostel up --watch`).

    /// Folders of sources in which the system tells of changes; with more of them they are looked for now and then.
    WATCHED_FOLDERS = "watched_folders", Count, 4096, [1, 100_000], "crates/server/src/watch.rs::more_folders_than_the_system_is_asked_about_are_looked_at_now_and_then";

    // Where guests keep their data without a server: one file for each app.

    /// Writes of one app that wait for the disk; further callers wait before they hand theirs over.
    STORE_WRITES_WAITING = "store_writes_waiting", Count, 1024, [1, 65_536], "crates/stores/src/embedded/tests.rs::a_full_queue_makes_callers_wait_and_loses_none";
    /// Reads of one app that wait for a thread; further callers wait before they hand theirs over.
    STORE_READS_WAITING = "store_reads_waiting", Count, 1024, [1, 65_536], "crates/stores/src/embedded/tests.rs::reads_that_wait_are_bounded_and_none_is_lost";
    /// Writes that share one commit; one more goes into the next.
    STORE_GROUP = "store_group", Count, 256, [1, 65_536], "crates/stores/src/embedded/tests.rs::a_group_is_bounded";
    /// Threads that read one app's file.
    STORE_READERS = "store_readers", Count, 2, [1, 64], "crates/stores/src/embedded/tests.rs::readers_are_as_many_as_were_asked_for";
    /// Size of one app's file; beyond it writes fail as on a full disk.
    STORE_FILE_BYTES_MAX = "store_file", Bytes, 64 * GIB, [64 * KIB, 16 * TIB], "crates/stores/src/embedded/tests.rs::a_full_file_is_a_failure_and_over_when_there_is_room";
    /// Length of one key of an embedded or in-memory key-value store.
    KEYVALUE_KEY_BYTES_MAX = "keyvalue_key", Bytes, 64 * KIB, [256, MIB], "crates/stores/tests/kv/embedded.rs::keys_and_values_are_bounded";
    /// Size of one value of an embedded or in-memory key-value store.
    KEYVALUE_VALUE_BYTES_MAX = "keyvalue_value", Bytes, 64 * MIB, [KIB, 512 * MIB], "crates/stores/tests/kv/embedded.rs::keys_and_values_are_bounded";
    /// Bytes of one app's embedded key-value data that are kept in memory as well; what was least in demand is read from the file.
    KEYVALUE_CACHE_BYTES = "keyvalue_cache", Bytes, 32 * MIB, [0, 16 * GIB], "crates/stores/src/kv/cache.rs::its_bytes_are_bounded";
    /// Bytes of one label's key-value data that is in memory only; beyond it writes fail as on a full disk.
    KEYVALUE_MEMORY_BYTES = "keyvalue_memory", Bytes, 256 * MIB, [KIB, 64 * GIB], "crates/stores/src/kv/memory.rs::a_label_in_memory_is_bounded_and_has_room_again";

    // What is read from disk.

    /// How long one operation of a store may take; `timeout` in `server.toml` says otherwise.
    STORE_TIMEOUT_MS = "store_timeout", Milliseconds, 2 * SECOND, [10, 10 * MINUTE], "tests/limits::store_timeout";
    /// Size of one variable's value in a file.
    VARIABLE_BYTES_MAX = "variable", Bytes, 64 * KIB, [KIB, MIB], "tests/limits::variable";
    /// Providers of variables in one `server.toml`.
    PROVIDERS_MAX = "providers", Count, 16, [1, 100], "crates/app/tests/server_config.rs::providers_are_bounded";
    /// Size of one manifest.
    MANIFEST_BYTES_MAX = "manifest", Bytes, MIB, [KIB, MIB], "crates/app/tests/resolve.rs::manifest_size_is_bounded";
    /// Errors that one manifest reports; the rest is counted.
    MANIFEST_ERRORS_MAX = "manifest_errors", Count, 100, [1, 1000], "crates/app/src/error.rs::errors_come_in_the_order_of_the_file_and_end_somewhere";
    /// Bytes of all values of one manifest after its variables were filled in.
    EXPANDED_BYTES_MAX = "expanded", Bytes, 4 * MIB, [KIB, 64 * MIB], "crates/app/tests/resolve.rs::expansion_is_bounded";
    /// Grants of one kind of one component.
    GRANTS_MAX = "grants", Count, 1000, [1, 10_000], "crates/app/tests/resolve.rs::grants_are_bounded";
    /// Components of one app.
    COMPONENTS_MAX = "components", Count, 1000, [1, 10_000], "crates/app/tests/resolve.rs::components_are_bounded";
    /// Size of one component.
    COMPONENT_BYTES_MAX = "component", Bytes, 256 * MIB, [KIB, GIB], "crates/app/tests/resolve.rs::component_size_is_bounded";
    /// Size of all components of one app.
    APP_BYTES_MAX = "app", Bytes, GIB, [KIB, 16 * GIB], "crates/app/tests/resolve.rs::component_size_is_bounded";
    /// Routes of one app.
    ROUTES_MAX = "routes", Count, 10_000, [1, 100_000], "crates/app/tests/resolve.rs::routes_are_bounded";
    /// `[[message]]` sections of one app.
    MESSAGES_MAX = "messages", Count, 1000, [1, 10_000], "crates/app/tests/resolve.rs::message_triggers_are_bounded";
    /// `[[cron]]` sections of one app.
    CRONS_MAX = "crons", Count, 10_000, [1, 100_000], "crates/app/tests/resolve.rs::cron_and_service_triggers_are_bounded";
    /// `[[service]]` sections of one app.
    SERVICES_MAX = "services", Count, 100, [1, 1000], "crates/app/tests/resolve.rs::cron_and_service_triggers_are_bounded";
    /// Routes that one guest prints itself (`_routes`); with more of them the app is not served.
    DISCOVERED_ROUTES = "discovered_routes", Count, 1_000, [1, 10_000], "tests/functional/dialects.rs::what_is_no_list_of_routes_is_told_at_the_start";
    /// Segments of one route.
    ROUTE_SEGMENTS_MAX = "route_segments", Count, 64, [1, 256], "crates/app/src/route/tests.rs::every_malformed_route_is_reported";
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_entry_is_well_formed() {
        let mut names = BTreeSet::new();
        for limit in ALL {
            assert!(
                limit.floor <= limit.default,
                "{}: default below floor",
                limit.name
            );
            assert!(
                limit.default <= limit.ceiling,
                "{}: default above ceiling",
                limit.name
            );
            assert!(names.insert(limit.name), "{}: named twice", limit.name);
            assert!(
                limit.doc.len() > 10 && limit.doc.ends_with('.'),
                "{}: say what is bounded",
                limit.name
            );
            let (file, test) = limit
                .test
                .split_once("::")
                .expect("a test is written FILE::NAME");
            assert!(
                !file.is_empty() && !test.is_empty(),
                "{}: {}",
                limit.name,
                limit.test
            );
        }
    }

    #[test]
    fn conversions_keep_the_default() {
        assert_eq!(MEMORY.size(), 128 << 20);
        assert_eq!(H2_STREAMS.count(), 100);
        assert_eq!(REQUEST_BODY.count(), 1 << 30);
        assert_eq!(
            Limit {
                default: u64::MAX,
                ..MEMORY
            }
            .count(),
            u32::MAX
        );
        assert_eq!(DEADLINE.duration(), Duration::from_secs(30));
    }
}
