//! The `[[service]]` sections: each with its component and the addresses that the host listens on for it.

use super::Assembly;
use crate::app::ServiceTrigger;
use crate::error::Kind;
use crate::fields::At;
use crate::manifest::ServiceText;
use std::collections::BTreeSet;
use std::net::SocketAddr;

impl Assembly<'_, '_> {
    pub(super) fn services(
        &mut self,
        written: Vec<ServiceText>,
        names: &[&str],
    ) -> Vec<ServiceTrigger> {
        let mut all = Vec::with_capacity(written.len());
        for text in written {
            let component = self.index(&text.component, names);
            let listen = text.listen.iter().filter_map(|at| self.address(at));
            let listen = listen.collect();
            all.push(ServiceTrigger { component, listen });
        }
        all
    }

    fn address(&mut self, written: &At<String>) -> Option<SocketAddr> {
        let text = self.expanded(written, &BTreeSet::new());
        let address = text.constant().and_then(|text| text.parse().ok());
        let Some(address) = address else {
            let what = format!("\"{}\" is not an address and a port", written.value);
            let help = "write it like \"127.0.0.1:9000\"";
            let span = written.span.clone();
            self.report.at(Kind::BadValue, span, what, help);
            return None;
        };
        Some(address)
    }
}
