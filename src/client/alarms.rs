//! Alarms: what a member has raised against the whole cluster, and until when.

use super::Client;
use super::unary::Unary;
use crate::net::call_options::CallOptions;
use crate::pb::etcdserverpb::alarm_request::AlarmAction;
use crate::pb::etcdserverpb::{AlarmRequest, AlarmResponse, AlarmType};
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
/// use tenure::MemberId;
///
/// for alarm in client.alarms().list().await?.alarms {
///     client.alarms().disarm(MemberId(alarm.member_id), alarm.alarm()).await?;
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
        self.call(AlarmAction::Get, MemberId::default(), AlarmType::None).idempotent()
    }

    /// Raises an alarm of a member, with all that follows. With `root` where authentication is
    /// enabled.
    pub fn arm(&self, member: MemberId, alarm: AlarmType) -> Alarm<'a> {
        self.call(AlarmAction::Activate, member, alarm)
    }

    /// Takes an alarm of a member back. With `root` where authentication is enabled. The answer
    /// has what was taken back: nothing where it was not raised.
    pub fn disarm(&self, member: MemberId, alarm: AlarmType) -> Alarm<'a> {
        self.call(AlarmAction::Deactivate, member, alarm)
    }

    fn call(&self, action: AlarmAction, member: MemberId, alarm: AlarmType) -> Alarm<'a> {
        let request = AlarmRequest {
            action: action.into(),
            member_id: member.0,
            alarm: alarm.into(),
        };
        Unary::new(self.client, &method::ALARM, request, CallOptions::default())
    }
}
