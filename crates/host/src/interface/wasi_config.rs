//! `wasi:config`: the release candidate and the draft before it, which differ in their version only.

use wasmtime::Result;
use wasmtime::component::{HasSelf, Linker};

use crate::capability::config::ConfigError;
use crate::capability::denied::Wanted;
use crate::state::Host;

/// Puts the packages' interfaces into the linker.
pub(super) fn add_to_linker(linker: &mut Linker<Host>) -> Result<()> {
    candidate::store::add_to_linker::<Host, HasSelf<Host>>(linker, |host| host)?;
    draft::store::add_to_linker::<Host, HasSelf<Host>>(linker, |host| host)
}

mod bindings {
    pub(super) mod candidate {
        wasmtime::component::bindgen!({
            path: "../../wit/config",
            world: "wasi:config/imports",
        });
    }
    pub(super) mod draft {
        wasmtime::component::bindgen!({
            path: "../../wit/config-draft",
            world: "wasi:config/imports",
        });
    }
}

use bindings::candidate::wasi::config as candidate;
use bindings::draft::wasi::config as draft;

type Answer<T> = std::result::Result<T, String>;

impl Host {
    /// A configuration value or a secret. An error is a sentence for the guest; the log has more.
    fn config_get(&mut self, key: &str) -> Answer<Option<String>> {
        let template = self.template();
        let value = template.settings.get(key);
        let value = value.map_err(|error| self.config_error(&error))?;
        Ok(value.map(|value| value.expose().to_owned()))
    }

    fn config_get_all(&mut self) -> Answer<Vec<(String, String)>> {
        let all = self.template().settings.all();
        let all = all.map_err(|error| self.config_error(&error))?;
        let exposed = all
            .into_iter()
            .map(|(key, value)| (key, value.expose().to_owned()));
        Ok(exposed.collect())
    }

    /// Tells the operator what is wrong, and the guest that something is: where values are kept is not its business.
    fn config_error(&self, error: &ConfigError) -> String {
        let template = self.template();
        match error {
            ConfigError::Denied(name) => {
                template.denied(Wanted::Secret, name);
                "access denied: the secret is not granted".to_owned()
            }
            ConfigError::NoValue(_) | ConfigError::TooLong(_) => {
                template.trouble(error);
                "the value cannot be had at the moment".to_owned()
            }
        }
    }
}

macro_rules! store {
    ($package:ident) => {
        impl $package::store::Host for Host {
            fn get(
                &mut self,
                key: String,
            ) -> std::result::Result<Option<String>, $package::store::Error> {
                self.config_get(&key)
                    .map_err($package::store::Error::Upstream)
            }

            fn get_all(
                &mut self,
            ) -> std::result::Result<Vec<(String, String)>, $package::store::Error> {
                self.config_get_all()
                    .map_err($package::store::Error::Upstream)
            }
        }
    };
}

store!(candidate);
store!(draft);
