//! A job: a program that is run to its end in the background, as a schedule does.
//!
//! It is called as a command is (`command`), on a fresh instance, but under the permits, lanes and metrics of every other call,
//! and what it prints goes to the log.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::abi::http::Work;
use crate::abi::{Callable, drive, program};
use crate::fault::Fault;
use crate::guest::{Inner, RequestId};
use crate::pool::Permit;
use crate::state::{Host, Template};

/// What one run is told.
#[derive(Debug, Clone, Default)]
pub struct Job {
    /// Arguments behind the program's name; `None` are the component's own.
    pub args: Option<Vec<String>>,
    /// Environment variables besides the component's own; they replace those of the same name.
    pub env: Vec<(String, String)>,
}

/// Runs it until it has ended; its exit code.
pub(crate) async fn run(
    guest: &Arc<Inner>,
    permit: Permit,
    job: Job,
    id: RequestId,
) -> Result<u8, Fault> {
    let settings = guest.template.settings.with_job(job.args, job.env);
    let template = Arc::new(Template {
        settings: Arc::new(settings.map_err(|error| Fault::Host(error.to_string()))?),
        ..guest.template.as_ref().clone()
    });
    let (ended, receiver) = oneshot::channel();
    let work = work(guest.clone(), template, id, ended);
    drive::work_to_the_end(guest, permit, id, (work, receiver)).await
}

fn work(
    guest: Arc<Inner>,
    template: Arc<Template>,
    id: RequestId,
    ended: oneshot::Sender<u8>,
) -> Work {
    Box::pin(async move {
        let Callable::Command(command) = &guest.callable else {
            return Err(Fault::BadGuest("it is not a program that ends".into()).into());
        };
        let store = || Host::program(&guest.engine, &template, id, command.kind(), None);
        let (code, spent) = program::run(&guest, command.entry(), store).await?;
        // Nobody listens any more if the run was cancelled.
        let _heard = ended.send(code);
        Ok(spent)
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hostel_app::limits::Limits;

    use super::*;
    use crate::guest::Guest;
    use crate::runtime::Role;
    use crate::testing;

    fn loaded(text: &str, limits: Limits) -> Guest {
        let component = hostel_app::Component {
            limits,
            ..testing::component(text.as_bytes())
        };
        let app = testing::runtime(None).app("test");
        app.load(&component, text.as_bytes(), Role::Job, &|_| {})
            .unwrap()
    }

    const ENDS_WITH_3: &str = r#"(module
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (func (export "_start") (call $exit (i32.const 3))))"#;

    #[tokio::test]
    async fn a_program_ends_with_its_exit_code_or_with_its_fault() {
        let guest = loaded(ENDS_WITH_3, Limits::default());
        for _ in 0..2 {
            let turn = guest.turn(Duration::ZERO).await.unwrap();
            let ended = guest.run_job(turn, Job::default(), RequestId(1)).await;
            assert_eq!(ended.unwrap(), 3);
        }
        let trap = r#"(module (memory (export "memory") 1) (func (export "_start") unreachable))"#;
        let guest = loaded(trap, Limits::default());
        let turn = guest.turn(Duration::ZERO).await.unwrap();
        let ended = guest.run_job(turn, Job::default(), RequestId(1)).await;
        assert!(matches!(ended, Err(Fault::Trap(_))), "{ended:?}");
    }

    #[tokio::test]
    async fn a_program_that_does_not_end_is_ended() {
        let limits = Limits {
            deadline_ms: Some(50),
            ..Limits::default()
        };
        let endless =
            r#"(module (memory (export "memory") 1) (func (export "_start") (loop (br 0))))"#;
        let guest = loaded(endless, limits);
        let turn = guest.turn(Duration::ZERO).await.unwrap();
        let ended = guest.run_job(turn, Job::default(), RequestId(1)).await;
        assert!(matches!(ended, Err(Fault::Deadline(50))), "{ended:?}");
    }

    #[tokio::test]
    async fn a_turn_is_waited_for_and_no_longer_than_that() {
        let limits = Limits {
            concurrency: 1,
            queue_wait_ms: 1,
            ..Limits::default()
        };
        let guest = loaded(ENDS_WITH_3, limits);
        let first = guest.turn(Duration::ZERO).await.unwrap();
        let second = guest.turn(Duration::from_millis(60)).await;
        assert!(matches!(second, Err(Fault::Busy(_))), "{second:?}");
        let later = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            drop(first);
        };
        let (third, ()) = tokio::join!(guest.turn(Duration::from_secs(20)), later);
        assert!(third.is_ok());
    }
}
