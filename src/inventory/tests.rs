use serde_json::json;

use super::*;

fn read(text: &str, extra: &[(String, Value)]) -> Result<(Inventory, Vec<Diagnostic>), Vec<Diagnostic>> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("i.yml");
    std::fs::write(&path, text).unwrap();
    load(&mut Sources::default(), &path, extra)
}

fn good(text: &str) -> Inventory {
    read(text, &[]).unwrap().0
}

/// Every message of an inventory, with its help.
fn messages(text: &str) -> Vec<String> {
    let list = match read(text, &[]) {
        Ok((_, warnings)) => warnings,
        Err(errors) => errors,
    };
    list.into_iter()
        .map(|d| match d.help {
            Some(help) => format!("{} / {help}", d.message),
            None => d.message,
        })
        .collect()
}

fn at<'i>(inventory: &'i Inventory, host: &str, name: &str) -> &'i Var {
    &inventory.hosts[host].vars[name]
}

#[test]
fn the_nearer_definition_wins_and_says_where_it_was() {
    let text = "\
all:
  vars: { pg_port: 1, pg_data: /g, pg_max_conn: 10, pg_conf: tiny.yml }
  children:
    a:
      vars: { pg_port: 2, pg_data: /a, pg_max_conn: 20 }
      hosts:
        10.0.0.1: { pg_port: 3 }
        10.0.0.2:
";
    let (inventory, _) = read(text, &[("pg_max_conn".to_owned(), json!("99"))]).unwrap();
    let found = |host, name| {
        let var = at(&inventory, host, name);
        (var.value.clone(), var.level.clone(), var.span.map(|s| &text[s.start as usize..s.end as usize]))
    };
    assert_eq!(found("10.0.0.1", "pg_port"), (json!(3), Level::Host, Some("3")));
    assert_eq!(found("10.0.0.2", "pg_port"), (json!(2), Level::Group("a".into()), Some("2")));
    assert_eq!(found("10.0.0.1", "pg_data"), (json!("/a"), Level::Group("a".into()), Some("/a")));
    assert_eq!(found("10.0.0.1", "pg_conf"), (json!("tiny.yml"), Level::Global, Some("tiny.yml")));
    assert_eq!(found("10.0.0.1", "pg_max_conn"), (json!(99), Level::Extra, None));
    assert_eq!(found("10.0.0.1", "pg_rto"), (json!("norm"), Level::Default, None));
}

#[test]
fn children_win_over_parents_and_later_names_over_earlier() {
    let text = "\
all:
  children:
    z: { hosts: { 10.0.0.1: }, vars: { pg_port: 26, pg_data: /z } }
    b: { hosts: { 10.0.0.1: }, vars: { pg_port: 2, pg_namespace: /b } }
    a:
      vars: { pg_port: 1, pg_localhost: /parent, patroni_port: 1 }
      children:
        aa: { hosts: { 10.0.0.1: }, vars: { pg_localhost: /child, pg_data: /aa } }
";
    let inventory = good(text);
    assert_eq!(at(&inventory, "10.0.0.1", "pg_port").value, 26);
    // `aa` is deeper than `z`, and depth counts before names.
    assert_eq!(at(&inventory, "10.0.0.1", "pg_data").value, "/aa");
    assert_eq!(at(&inventory, "10.0.0.1", "pg_localhost").value, "/child");
    assert_eq!(at(&inventory, "10.0.0.1", "patroni_port").value, 1);
    assert_eq!(inventory.hosts["10.0.0.1"].groups, ["a", "b", "z", "aa"]);
    assert_eq!(inventory.members("a"), ["10.0.0.1"]);
    assert_eq!(inventory.members("all"), ["10.0.0.1"]);
}

#[test]
fn a_group_priority_wins_over_its_name() {
    let text = "\
all:
  children:
    a: { hosts: { 10.0.0.1: }, vars: { pg_port: 1, ansible_group_priority: 10 } }
    b: { hosts: { 10.0.0.1: }, vars: { pg_port: 2 } }
";
    assert_eq!(at(&good(text), "10.0.0.1", "pg_port").value, 1);
}

#[test]
fn a_group_named_in_two_places_is_one_group() {
    let text = "\
all:
  children:
    x: { children: { shared: { hosts: { 10.0.0.1: } } }, vars: { pg_port: 7 } }
    y: { children: { shared: { hosts: { 10.0.0.2: }, vars: { pg_data: /s } } } }
";
    let inventory = good(text);
    assert_eq!(inventory.members("shared"), ["10.0.0.1", "10.0.0.2"]);
    assert_eq!(at(&inventory, "10.0.0.2", "pg_port").value, 7);
    assert_eq!(at(&inventory, "10.0.0.1", "pg_data").value, "/s");
}

#[test]
fn lists_and_maps_are_replaced_whole() {
    let text = "\
all:
  vars: { pg_users: [{ name: a }, { name: b }] }
  children: { g: { hosts: { 10.0.0.1: }, vars: { pg_users: [{ name: c }] } } }
";
    assert_eq!(at(&good(text), "10.0.0.1", "pg_users").value, json!([{"name": "c"}]));
}

#[test]
fn nothing_written_is_not_set() {
    let text =
        "all: { children: { g: { hosts: { 10.0.0.1: }, vars: { pg_users: , pg_port: ~, custom: } } } }\n";
    let inventory = good(text);
    assert_eq!(at(&inventory, "10.0.0.1", "pg_users").value, json!([]));
    assert_eq!(at(&inventory, "10.0.0.1", "pg_port").level, Level::Default);
    assert_eq!(at(&inventory, "10.0.0.1", "custom").value, Value::Null);
}

#[test]
fn placeholders_are_filled_where_they_are_known() {
    let text = "\
all:
  vars: { admin_ip: 10.9.9.9, pg_users: [{ name: a, comment: '${admin_ip}' }] }
  children:
    g:
      hosts: { 10.0.0.1: { pg_listen: '${ip},${vip},${lo}' } }
      vars:
        pg_cluster: pg-a
        node_etc_hosts: ['${admin_ip} a', b]
        pgbackrest_repo: { s3: { path: '/x/${pg_cluster}' } }
";
    let inventory = good(text);
    let value = |name| &at(&inventory, "10.0.0.1", name).value;
    assert_eq!(value("node_etc_hosts"), &json!(["10.9.9.9 a", "b"]));
    assert_eq!(value("node_dns_servers"), &json!(["10.9.9.9"]));
    assert_eq!(value("pgbackrest_repo"), &json!({"s3": {"path": "/x/pg-a"}}));
    assert_eq!(value("pg_listen"), "10.0.0.1,127.0.0.1");
    assert_eq!(value("pg_users"), &json!([{"name": "a", "comment": "${admin_ip}"}]));
    assert_eq!(value("pg_default_hba_rules")[0]["user"], "${dbsu}");
}

#[test]
fn a_placeholder_without_its_value_is_an_error_or_leaves_a_default() {
    let inventory = good("all: { hosts: { 10.0.0.1: } }\n");
    assert_eq!(at(&inventory, "10.0.0.1", "node_default_etc_hosts").value, json!([]));
    assert_eq!(
        messages("all: { hosts: { 10.0.0.1: }, vars: { node_etc_hosts: ['${admin_ip} x'] } }\n"),
        [
            "`node_etc_hosts` uses `${admin_ip}`, and `admin_ip` is not set / set `admin_ip` under `all.vars` to the address of the node you administer from"
        ]
    );
}

#[test]
fn what_is_no_inventory_says_how_to_begin() {
    let start = "an inventory starts with `all:` and has `children:` and `vars:` under it; `inventories/` in the repository has some to copy";
    assert_eq!(messages(""), [format!("the inventory is empty / {start}")]);
    assert_eq!(messages("# nothing\n---\n"), [format!("the inventory is empty / {start}")]);
    assert_eq!(
        messages("al:\n  vars: {}\n"),
        ["the inventory has no `all` / did you mean `all` instead of `al`?"]
    );
    assert_eq!(messages("etcd: {}\n"), [format!("the inventory has no `all` / {start}")]);
    assert_eq!(messages("hello\n"), [format!("an inventory is a map, not text / {start}")]);
    assert_eq!(
        messages("- hosts: all\n  tasks: []\n"),
        ["an inventory is a map, not a list / this is an Ansible playbook; give the inventory"]
    );
}

#[test]
fn wrong_shapes_are_all_named() {
    let text = "\
all:
  vras: {}
  vars: [a]
  children:
    g:
      host: { 10.0.0.1: }
      pg_cluster: x
    h: [10.0.0.1]
    i: { hosts: [10.0.0.1] }
    j: { hosts: { 10.0.0.1: primary } }
    all: {}
pg-test: {}
";
    let found = messages(text);
    let starts = [
        "`vras` is not a part of the group `all` / did you mean `vars`?",
        "`vars` of the group `all` is a list, not a map",
        "`host` is not a part of the group `g` / did you mean `hosts`?",
        "`pg_cluster` is not a part of the group `g` / variables of a group belong under `vars:`",
        "the group `h` is a list, not a map",
        "`hosts` of the group `i` is a list, not a map",
        "the host `10.0.0.1` is text, not a map of variables",
        "`all` cannot be a child",
        "`pg-test` stands beside `all`",
    ];
    assert_eq!(found.len(), starts.len(), "{found:#?}");
    for (found, start) in found.iter().zip(starts) {
        assert!(found.starts_with(start), "{found}");
    }
}

#[test]
fn a_group_inside_itself_is_an_error() {
    let text = "all: { children: { a: { children: { b: { children: { a: } } } } } }\n";
    assert_eq!(messages(text), ["the group `a` contains itself"]);
}

#[test]
fn unknown_and_unused_parameters_are_named_once() {
    let text = "\
all:
  vars: { pg_vip_enabled: true, version: v4.5.0, pg_reload: true, node_tune: oltp, my_own: 1 }
  children:
    a: { hosts: { 10.0.0.1: { pg_prot: 1 } }, vars: { pg_vip_enabled: true, pg_prot: 2 } }
";
    assert_eq!(
        messages(text),
        [
            "`pg_vip_enabled` has no effect: pgctl does not do this yet",
            "unknown parameter `my_own` / nothing in pgctl reads it; your own templates may",
            "unknown parameter `pg_prot` / did you mean `pg_port`?",
        ]
    );
}

#[test]
fn a_host_with_two_values_is_told() {
    let text = |name: &str| {
        format!(
            "all: {{ children: {{ a: {{ hosts: {{ 10.0.0.1: {{ {name}: 1 }} }} }}, b: {{ hosts: {{ 10.0.0.1: {{ {name}: 2 }} }} }} }} }}\n"
        )
    };
    assert!(read(&text("pg_seq"), &[]).is_err());
    let (inventory, warnings) = read(&text("pg_port"), &[]).unwrap();
    assert_eq!(warnings[0].message, "the host `10.0.0.1` gets two values of `pg_port`");
    assert_eq!(at(&inventory, "10.0.0.1", "pg_port").value, 2);
}

#[test]
fn jinja_stays_as_it_is_with_a_warning() {
    let text = "all: { hosts: { 10.0.0.1: { pg_port: '{{ base + 1 }}' } } }\n";
    let (inventory, warnings) = read(text, &[]).unwrap();
    assert_eq!(at(&inventory, "10.0.0.1", "pg_port").value, "{{ base + 1 }}");
    assert_eq!(warnings[0].message, "`pg_port` holds a Jinja expression");
}

#[test]
fn vault_and_unknown_tags_are_refused_unsafe_is_not() {
    let text = "\
all:
  vars:
    pg_admin_password: !vault |
      $ANSIBLE_VAULT;1.1;AES256
      6162
    pg_users: [{ name: a, password: !vault x }]
    pg_data: !custom /x
    pg_monitor_password: !unsafe 'a{{b'
";
    assert_eq!(
        messages(text)[..3],
        [
            "`pg_admin_password` is encrypted with Ansible Vault / pgctl does not decrypt `!vault` values yet",
            "`pg_users` is encrypted with Ansible Vault / pgctl does not decrypt `!vault` values yet",
            "the tag `!custom` of `pg_data` is not known / remove the tag",
        ]
    );
}

#[test]
fn extra_variables_are_checked_too() {
    let text = "all: { hosts: { 10.0.0.1: } }\n";
    let errors = read(text, &[("pg_port".to_owned(), json!("x"))]).unwrap_err();
    assert_eq!(errors[0].message, "`pg_port` expects a port, 1 to 65535, not `x` (given by `-e`)");
}

#[test]
fn a_missing_file_names_its_neighbours() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pigsty.yml");
    let said = |path: &Path| {
        let error = load(&mut Sources::default(), path, &[]).unwrap_err().remove(0);
        let place = format!("{}/", directory.path().display());
        (error.message.replace(&place, ""), error.help.unwrap_or_default().replace(&place, ""))
    };
    let (message, help) = said(&path);
    assert_eq!(message, "no such file: `pigsty.yml`");
    assert_eq!(
        help,
        "there is no .yml file in that directory; `inventories/` in the repository has some to copy"
    );
    std::fs::write(directory.path().join("pigstyy.yml"), "").unwrap();
    std::fs::write(directory.path().join("b.txt"), "").unwrap();
    assert_eq!(said(&path).1, "did you mean `pigstyy.yml`?");
    assert_eq!(said(&directory.path().join("other.yml")).1, "in that directory: `pigstyy.yml`");
    assert!(said(directory.path()).0.ends_with("is a directory, not an inventory"));
    assert!(said(&directory.path().join("x/y.yml")).1.starts_with("there is no directory `x` either"));
    std::fs::write(&path, b"a: \xff\n").unwrap();
    assert_eq!(said(&path).0, "cannot read `pigsty.yml`: not UTF-8 at byte 3");
}

#[test]
fn entries_of_lists_are_checked() {
    let text = "\
all:
  hosts: { 10.0.0.1: }
  vars:
    pg_users:
      - { name: a, pasword: c4nary }
      - { name: Bad }
      - { name: a }
      - { password: c4nary }
      - c4nary
      - { name: 12, state: gone }
    pg_databases: [{ name: d, ownr: a, state: recreate }]
    pg_services: [{ name: s }]
    pg_hba_rules: [{ user: all, db: all }, { rules: [x] }]
";
    assert_eq!(
        messages(text),
        [
            "a user has no `pasword`; it is ignored / did you mean `password`?",
            "`Bad` cannot be the name of a user / lower-case letters, digits and `_@.-`, at most 63, the first a letter or `_`",
            "the user `a` is listed twice",
            "a user of `pg_users` has no `name`",
            "an entry of `pg_users` is text, not a map / a user is written as `{ name: … }`",
            "the name of a user is an integer, not text / quote it",
            "the `state` of a user is one of create, absent",
            "a database has no `ownr`; it is ignored / did you mean `owner`?",
            "a service of `pg_services` has no `port`",
            "a rule of `pg_hba_rules` has neither `addr` nor `rules`",
        ]
    );
}
