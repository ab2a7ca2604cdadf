//! What must hold at the end: every table is the set of living nodes.

use super::{
    nodes::{Basic, Node},
    world::World,
};
use crate::member::Member;

impl World {
    /// # Errors
    /// Describes the first table that differs.
    pub(super) fn converged(&self) -> Result<(), String> {
        let master = self.master.as_ref().ok_or("no master")?;
        let living: Vec<Member> = self
            .nodes
            .iter()
            .flatten()
            .map(|node| node.member().clone())
            .collect();
        same("the register", master.registry.members(), living.clone())?;
        same("the master's table", master.members.list(), living.clone())?;
        for node in self.nodes.iter().flatten() {
            let mut expected = living.clone();
            expected.retain(|member| member != node.member());
            expected.push(master.registry.own().clone());
            let address = node.member().address();
            match node {
                Node::Rust(rust) => {
                    if rust.members.list().first() != Some(master.registry.own()) {
                        return Err(format!("{address} does not have the master first"));
                    }
                    same(address, rust.members.list(), expected)?;
                }
                Node::Basic(basic) => basic_converged(basic, &expected, self.master_restarted)?,
            }
        }
        Ok(())
    }
}

fn same(whose: &str, mut table: Vec<Member>, mut expected: Vec<Member>) -> Result<(), String> {
    for members in [&mut table, &mut expected] {
        members.sort_by(|a, b| a.address().cmp(b.address()));
    }
    if table == expected {
        return Ok(());
    }
    Err(format!("{whose} has {table:#?}\ninstead of {expected:#?}"))
}

/// A basic member has every living member once. It keeps members that died while there was no
/// master: a new master does not know them, so it cannot announce that they left.
fn basic_converged(
    basic: &Basic,
    expected: &[Member],
    master_restarted: bool,
) -> Result<(), String> {
    for member in expected {
        let count = basic
            .table
            .iter()
            .filter(|entry| entry.address() == member.address())
            .count();
        if count != 1 {
            return Err(format!(
                "{} has {count} times {member:?}",
                basic.own.address()
            ));
        }
    }
    if basic.table.len() != expected.len() && !master_restarted {
        return Err(format!(
            "{} has {:#?}\ninstead of {expected:#?}",
            basic.own.address(),
            basic.table
        ));
    }
    Ok(())
}
