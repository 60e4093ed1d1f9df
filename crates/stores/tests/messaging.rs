//! The contract of brokers. Another driver is another line at the end of this file.

mod cases;
mod driver;
mod embedded;
mod load;
mod local;
mod redelivery;
mod scopes;

/// Runs every case against the driver that `$make` is a future of.
macro_rules! contract {
    ($driver:ident, $make:expr) => {
        contract! { $driver, $make,
            always [
                cases every_group_gets_each_message_and_its_subscribers_share_them,
                cases patterns_choose_the_topics,
                cases one_publisher_is_heard_in_its_order,
                cases bodies_and_headers_arrive_as_they_were,
                cases what_is_no_topic_is_refused,
                cases nobody_listening_is_said,
                cases a_request_is_answered,
                cases a_request_takes_as_many_answers_as_it_wants,
                cases a_request_that_nobody_answers_ends_in_time,
                cases an_answer_needs_somebody_who_waits,
                cases a_broker_can_be_reached,
                scopes scopes_do_not_hear_each_other,
                scopes no_spelling_of_a_topic_leaves_its_scope,
                scopes requests_stay_in_their_scope,
            ]
            where_nothing_is_lost [
                redelivery what_was_refused_comes_again_and_is_counted,
                redelivery what_was_dropped_comes_again,
                redelivery what_nobody_settles_comes_again,
                redelivery what_fails_too_often_goes_to_the_dead_letters,
                redelivery what_is_rejected_is_a_dead_letter_at_once,
                redelivery what_is_still_worked_on_does_not_come_again,
                redelivery what_nobody_worked_on_does_not_count,
                redelivery a_group_that_was_away_gets_what_came_meanwhile,
                redelivery no_more_are_unsettled_than_were_asked_for,
                load nothing_is_lost_while_subscribers_come_and_go,
            ]
        }
    };
    ($driver:ident, $make:expr, always [$($a:ident $always:ident,)*] where_nothing_is_lost [$($b:ident $where:ident,)*]) => {
        mod $driver {
            use super::driver::Driver;

            $(#[tokio::test]
            async fn $always() {
                let driver: Driver = $make.await;
                super::$a::$always(&driver).await;
            })*
            $(#[tokio::test]
            async fn $where() {
                let driver: Driver = $make.await;
                if driver.at_least_once {
                    super::$b::$where(&driver).await;
                }
            })*
        }
    };
}

contract!(on_memory, Driver::local("memory:"));
contract!(on_embedded, Driver::local("embedded:"));
contract!(on_embedded_behind, Driver::local("embedded:?durable=false"));
contract!(on_jetstream, Driver::jetstream());
contract!(on_nats_core, Driver::nats_core());
contract!(on_redis_streams, Driver::redis());
