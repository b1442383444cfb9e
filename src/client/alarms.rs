//! Alarms: what a member has raised against the whole cluster, and until when.

use super::Client;
use super::unary::Unary;
use crate::error::Error;
use crate::net::call_options::CallOptions;
use crate::pb::etcdserverpb::alarm_request::AlarmAction;
use crate::pb::etcdserverpb::{AlarmMember, AlarmRequest, AlarmResponse, AlarmType};
use crate::types::MemberId;
use crate::wire::method::maintenance as method;

/// The alarms of the cluster, as [`Client::alarms`] gives them.
///
/// A member raises [`AlarmType::Nospace`] when its database has reached its quota: nothing
/// can be written until space was freed *and* the alarm was disarmed.
/// [`AlarmType::Corrupt`] says that the members' data differ.
///
/// ```no_run
/// # async fn example(client: tenure::Client) -> Result<(), tenure::Error> {
/// for alarm in client.alarms().disarm_all().await? {
///     println!("member {:x} had raised {:?}", alarm.member_id, alarm.alarm());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Alarms<'a> {
    client: &'a Client,
}

/// A call about alarms to await, as [`Alarms`] makes it.
pub type Alarm<'a> = Unary<'a, AlarmRequest, AlarmResponse>;

impl Client {
    /// The alarms of the cluster's members.
    #[must_use]
    pub fn alarms(&self) -> Alarms<'_> {
        Alarms { client: self }
    }
}

impl<'a> Alarms<'a> {
    /// Lists what is raised. Any user may.
    pub fn list(&self) -> Alarm<'a> {
        self.call(AlarmAction::Get, AlarmMember::default()).idempotent()
    }

    /// Raises an alarm of a member, with all that follows. With `root` where authentication is
    /// enabled.
    pub fn arm(&self, member: MemberId, alarm: AlarmType) -> Alarm<'a> {
        self.call(AlarmAction::Activate, raised(member, alarm))
    }

    /// Takes an alarm of a member back. With `root` where authentication is enabled. The answer
    /// has what was taken back: nothing where it was not raised.
    pub fn disarm(&self, member: MemberId, alarm: AlarmType) -> Alarm<'a> {
        self.call(AlarmAction::Deactivate, raised(member, alarm))
    }

    /// Takes every alarm that is raised back, of all members, one after the other: etcd has no
    /// call that does. Gives what was taken back. With `root` where authentication is enabled.
    ///
    /// # Errors
    ///
    /// Of the list, or of the first alarm that was not taken back; those before it were.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it completes, some of them may have been taken back.
    pub async fn disarm_all(&self) -> Result<Vec<AlarmMember>, Error> {
        let mut disarmed = Vec::new();
        for alarm in self.list().await?.alarms {
            disarmed.extend(self.call(AlarmAction::Deactivate, alarm).await?.alarms);
        }
        Ok(disarmed)
    }

    fn call(&self, action: AlarmAction, alarm: AlarmMember) -> Alarm<'a> {
        let request = AlarmRequest {
            action: action.into(),
            member_id: alarm.member_id,
            alarm: alarm.alarm,
        };
        Unary::new(self.client, &method::ALARM, request, CallOptions::default())
    }
}

fn raised(member: MemberId, alarm: AlarmType) -> AlarmMember {
    AlarmMember {
        member_id: member.0,
        alarm: alarm.into(),
    }
}
