//! Services of a cluster: `pg_default_services` and `pg_services` → what `HAProxy` listens on and whom it asks.

use serde::Serialize;
use serde_json::Value;

use super::rto::Rto;
use super::selector::{Selector, SelectorError};
use crate::text::suggest::nearest;

/// One `HAProxy` listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Service {
    pub name: String,
    pub port: u16,
    /// Address to listen on; `*` is all of them.
    pub ip: String,
    /// Path of Patroni's API that answers 200 when a server may serve, as `/primary`.
    pub check: String,
    /// Port on the servers.
    pub dest_port: u16,
    /// Connections of the whole service.
    pub maxconn: u32,
    pub balance: String,
    /// Options of every server: check intervals and what to do on a state change.
    pub options: String,
    pub servers: Vec<Server>,
}

/// A member of the cluster as a server of one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Server {
    pub name: String,
    pub address: String,
    /// 0 to 255.
    pub weight: u8,
    /// Serves only when no other server does.
    pub backup: bool,
}

/// A member of the cluster, with the variables that selectors look at.
#[derive(Clone, Debug)]
pub struct ServiceMember {
    pub name: String,
    pub address: String,
    /// `pg_weight`.
    pub weight: u8,
    /// Its inventory variables, as `pg_role` and `pg_offline_query`.
    pub vars: Value,
}

/// Ports that the destinations of services stand for.
#[derive(Clone, Debug)]
pub struct Destinations {
    /// `pg_default_service_dest`: postgres or pgbouncer.
    pub default: String,
    pub postgres: u16,
    pub pgbouncer: u16,
}

/// Why a service cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    #[error("service {0} is not a map")]
    NotAMap(String),
    #[error("service {service} needs `{key}`")]
    Missing { service: String, key: &'static str },
    #[error("service {service}: `{key}` `{value}` is not {expected}{hint}")]
    Value { service: String, key: &'static str, value: String, expected: &'static str, hint: String },
    #[error("service {service}: `{key}`: {source}")]
    Selector { service: String, key: &'static str, source: SelectorError },
    #[error("services `{first}` and `{second}` both listen on port {port}")]
    Port { first: String, second: String, port: u16 },
    #[error("two services are named `{0}`")]
    Name(String),
}

/// The services of a cluster, in the order of `defaults` then `services`.
///
/// Members match by their role in the inventory; who really leads is decided by the check.
///
/// # Errors
/// The first entry that cannot be used, or two that collide.
pub fn resolve(
    defaults: &[Value],
    services: &[Value],
    members: &[ServiceMember],
    destinations: &Destinations,
    rto: &Rto,
) -> Result<Vec<Service>, ServiceError> {
    let mut resolved: Vec<Service> = Vec::new();
    for (list, prefix) in [(defaults, "default "), (services, "")] {
        for (at, entry) in list.iter().enumerate() {
            let service = read(entry, &format!("{prefix}#{}", at + 1), members, destinations, rto)?;
            if let Some(other) = resolved.iter().find(|other| other.name == service.name) {
                return Err(ServiceError::Name(other.name.clone()));
            }
            let shared = |a: &str, b: &str| a == b || a == "*" || b == "*";
            if let Some(other) =
                resolved.iter().find(|other| other.port == service.port && shared(&other.ip, &service.ip))
            {
                return Err(ServiceError::Port {
                    first: other.name.clone(),
                    second: service.name,
                    port: service.port,
                });
            }
            resolved.push(service);
        }
    }
    Ok(resolved)
}

fn read(
    entry: &Value,
    place: &str,
    members: &[ServiceMember],
    destinations: &Destinations,
    rto: &Rto,
) -> Result<Service, ServiceError> {
    let map = entry.as_object().ok_or_else(|| ServiceError::NotAMap(place.to_owned()))?;
    let name = map.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let fields =
        Fields { map, service: if name.is_empty() { place.to_owned() } else { format!("`{name}`") } };
    let word = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
    };
    fields.text("name", None, "a word of letters, digits, `_`, `-`, `.`", word)?;
    let selector = fields.selector("selector")?.ok_or_else(|| fields.missing("selector"))?;
    let backup = fields.selector("backup")?;
    let servers = members.iter().filter_map(|member| {
        let is_backup = backup.as_ref().is_some_and(|selector| selector.matches(&member.vars));
        (is_backup || selector.matches(&member.vars)).then(|| Server {
            name: member.name.clone(),
            address: member.address.clone(),
            weight: member.weight,
            backup: is_backup,
        })
    });
    let printable =
        |text: &str| text.chars().all(|c| c == ' ' || c.is_ascii_graphic()) && !text.contains('#');
    Ok(Service {
        port: fields.port("port")?,
        ip: fields.text("ip", Some("*"), "an IP address or `*`", |ip| {
            ip == "*" || ip.parse::<std::net::IpAddr>().is_ok()
        })?,
        check: fields.text("check", Some("/"), "a path of Patroni's API, as `/primary`", |path| {
            path.starts_with('/') && printable(path) && !path.contains([' ', '"', '\'', '\\'])
        })?,
        dest_port: fields.destination(destinations)?,
        maxconn: fields.maxconn()?,
        balance: fields.text("balance", Some("roundrobin"), "an algorithm of HAProxy", |algorithm| {
            ["roundrobin", "static-rr", "leastconn", "first", "source", "random"].contains(&algorithm)
        })?,
        options: fields.text(
            "options",
            Some(&rto.server_options()),
            "one line of server options",
            printable,
        )?,
        servers: servers.collect(),
        name,
    })
}

struct Fields<'a> {
    map: &'a serde_json::Map<String, Value>,
    service: String,
}

impl Fields<'_> {
    fn missing(&self, key: &'static str) -> ServiceError {
        ServiceError::Missing { service: self.service.clone(), key }
    }

    fn wrong(&self, key: &'static str, value: &Value, expected: &'static str, hint: String) -> ServiceError {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        ServiceError::Value { service: self.service.clone(), key, value, expected, hint }
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    fn text(
        &self,
        key: &'static str,
        default: Option<&str>,
        expected: &'static str,
        accepts: impl Fn(&str) -> bool,
    ) -> Result<String, ServiceError> {
        let Some(value) = self.get(key) else {
            return default.map(str::to_owned).ok_or_else(|| self.missing(key));
        };
        match value.as_str() {
            Some(text) if accepts(text) => Ok(text.to_owned()),
            _ => Err(self.wrong(key, value, expected, String::new())),
        }
    }

    fn port(&self, key: &'static str) -> Result<u16, ServiceError> {
        let value = self.get(key).ok_or_else(|| self.missing(key))?;
        port(value).ok_or_else(|| self.wrong(key, value, "a port, 1 to 65535", String::new()))
    }

    fn maxconn(&self) -> Result<u32, ServiceError> {
        match self.get("maxconn") {
            None => Ok(5000),
            Some(value) => value
                .as_u64()
                .and_then(|n| u32::try_from(n).ok())
                .filter(|n| *n > 0)
                .ok_or_else(|| self.wrong("maxconn", value, "a whole number above 0", String::new())),
        }
    }

    fn destination(&self, destinations: &Destinations) -> Result<u16, ServiceError> {
        let default = Value::from("default");
        let value = self.get("dest").unwrap_or(&default);
        let word = match value.as_str() {
            Some("default") => destinations.default.as_str(),
            Some(word) => word,
            None => "",
        };
        match word {
            "postgres" => Ok(destinations.postgres),
            "pgbouncer" => Ok(destinations.pgbouncer),
            _ => port(value).ok_or_else(|| {
                let hint = nearest(word, ["default", "postgres", "pgbouncer"])
                    .map(|near| format!(", did you mean `{near}`?"))
                    .unwrap_or_default();
                self.wrong("dest", value, "default, postgres, pgbouncer or a port", hint)
            }),
        }
    }

    fn selector(&self, key: &'static str) -> Result<Option<Selector>, ServiceError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let text = value
            .as_str()
            .ok_or_else(|| self.wrong(key, value, "a JMESPath selector, as `[]`", String::new()))?;
        Selector::parse(text).map(Some).map_err(|source| ServiceError::Selector {
            service: self.service.clone(),
            key,
            source,
        })
    }
}

fn port(value: &Value) -> Option<u16> {
    let number = match value {
        Value::String(text) => text.parse().ok(),
        other => other.as_u64().and_then(|n| u16::try_from(n).ok()),
    };
    number.filter(|port| *port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn defaults() -> Value {
        json!([
            { "name": "primary", "port": 5433, "dest": "default", "check": "/primary", "selector": "[]" },
            { "name": "replica", "port": 5434, "dest": "default", "check": "/read-only", "selector": "[]",
              "backup": "[? pg_role == `primary` || pg_role == `offline` ]" },
            { "name": "default", "port": 5436, "dest": "postgres", "check": "/primary", "selector": "[]" },
            { "name": "offline", "port": 5438, "dest": "postgres", "check": "/replica",
              "selector": "[? pg_role == `offline` || pg_offline_query ]",
              "backup": "[? pg_role == `replica` && !pg_offline_query]" },
        ])
    }

    fn members() -> Vec<ServiceMember> {
        ["primary", "replica", "replica"]
            .iter()
            .enumerate()
            .map(|(at, role)| ServiceMember {
                name: format!("pg-test-{}", at + 1),
                address: format!("10.10.10.1{}", at + 1),
                weight: 100,
                vars: json!({ "pg_role": role, "pg_offline_query": at == 2 }),
            })
            .collect()
    }

    fn of(services: &Value) -> Result<Vec<Service>, ServiceError> {
        let destinations = Destinations { default: "pgbouncer".into(), postgres: 5432, pgbouncer: 6432 };
        let rto = Rto::choose(&Value::Null, &Value::Null).unwrap();
        let defaults = defaults();
        resolve(defaults.as_array().unwrap(), services.as_array().unwrap(), &members(), &destinations, &rto)
    }

    fn servers(service: &Service) -> String {
        let server = |s: &Server| format!("{}{}", &s.name[8..], if s.backup { "b" } else { "" });
        service.servers.iter().map(server).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_four_default_services_of_a_trio() {
        let services = of(&json!([])).unwrap();
        let seen: Vec<_> = services
            .iter()
            .map(|s| format!("{} {}>{} {}", s.name, s.port, s.dest_port, servers(s)))
            .collect();
        assert_eq!(
            seen,
            [
                "primary 5433>6432 1 2 3",
                "replica 5434>6432 1b 2 3",
                "default 5436>5432 1 2 3",
                "offline 5438>5432 2b 3",
            ]
        );
        assert_eq!((services[0].ip.as_str(), services[0].maxconn), ("*", 5000));
        assert!(services[0].options.contains("on-marked-down shutdown-sessions"));
    }

    #[test]
    fn an_extra_service_says_it_all() {
        let services = of(&json!([{
            "name": "standby", "port": "5435", "ip": "10.10.10.11", "dest": 5999, "check": "/sync", "selector": "[]",
            "backup": "[? pg_role == `primary`]", "maxconn": 3000, "balance": "leastconn", "options": "inter 3s"
        }]))
        .unwrap();
        let standby = &services[4];
        assert_eq!((standby.port, standby.dest_port, standby.maxconn), (5435, 5999, 3000));
        assert_eq!((standby.balance.as_str(), standby.options.as_str()), ("leastconn", "inter 3s"));
        assert_eq!(servers(standby), "1b 2 3");
    }

    #[test]
    fn what_is_wrong_is_said() {
        let said = |service: Value| of(&json!([service])).unwrap_err().to_string();
        assert_eq!(
            said(json!({ "name": "x", "port": 5433, "selector": "[]" })),
            "services `primary` and `x` both listen on port 5433"
        );
        assert_eq!(
            said(json!({ "name": "primary", "port": 1, "selector": "[]" })),
            "two services are named `primary`"
        );
        assert_eq!(
            said(json!({ "name": "x", "port": 1, "selector": "[]", "dest": "pgbounce" })),
            "service `x`: `dest` `pgbounce` is not default, postgres, pgbouncer or a port, did you mean `pgbouncer`?"
        );
        assert_eq!(said(json!({ "name": "x", "port": 1 })), "service `x` needs `selector`");
        assert_eq!(said(json!({ "port": 1, "selector": "[]" })), "service #1 needs `name`");
        assert!(said(json!({ "name": "x y", "port": 1, "selector": "[]" })).contains("is not a word"));
        assert!(said(json!({ "name": "x", "port": 70000, "selector": "[]" })).contains("is not a port"));
        assert!(
            said(json!({ "name": "x", "port": 1, "selector": "[]", "options": "inter 1s\n  evil" }))
                .contains("not one line")
        );
        assert_eq!(
            said(json!({ "name": "x", "port": 1, "selector": "[? a = `b`]" })),
            "service `x`: `selector`: `[? a = `b`]` at character 6: expected `==`"
        );
    }
}
