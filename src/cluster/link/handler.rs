//! Applies the effects of links: to handlers, to sessions of this gate, to calls.

use std::{mem, sync::Arc};

use tokio::time::Instant;
use tracing::{debug, warn};

use super::{
    activity::OpenCalls,
    config::{PROBE_INTERVAL, SUSPECT_AFTER, stream_index},
    context::LinkContext,
    effect::{Effect, EndCause},
    peer::LinkPeer,
    proto::{Frame, Kind, SharedValue},
    stream::LinkStream,
};
use crate::{
    cluster::node_services::NodeCall,
    dispatch::Dispatch,
    error::{Error, Result, code},
    message::Message,
    session::{Call, CallRouter, CloseReason, Push, ReplyTo, Session, UserId},
    trace::{TraceContext, within},
};

/// Applies effects in order, and empties the vector for the next input. Called without any lock: a
/// message is decoded here, which is the application's code.
pub(super) fn apply(
    dispatch: &Dispatch,
    peer: &LinkPeer,
    index: usize,
    effects: &mut Vec<Effect<Session>>,
) {
    for effect in effects.drain(..) {
        if let Err(error) = apply_one(dispatch, peer, index, effect) {
            peer.context.metrics.frame_refused(&error);
            debug!(peer = %peer.address, stream = index, %error, "frame refused");
        }
    }
}

fn apply_one(
    dispatch: &Dispatch,
    peer: &LinkPeer,
    index: usize,
    effect: Effect<Session>,
) -> Result {
    let (context, stream) = (&*peer.context, &peer.streams[index]);
    match effect {
        Effect::Deliver {
            session,
            request,
            route,
            body,
            origin,
            trace,
        } => {
            let message = if request != 0 {
                Message::request(request, route, body)
            } else {
                Message::notify(route, body)
            };
            traced(dispatch, trace, || {
                dispatch.deliver(session.into_request(request), &message, origin);
            });
        }
        Effect::DeliverCall {
            session,
            mut frame,
            route,
        } => traced(dispatch, frame.take_trace(), || {
            dispatch.answer(Call {
                session,
                to: None,
                route,
                caller: reply_to(stream, &frame),
                body: frame.body,
            });
        }),
        Effect::NodeCall { method, frame } => {
            let caller = (frame.request != 0).then(|| reply_to(stream, &frame));
            context.node_services.answer(
                &method,
                NodeCall {
                    from: peer.address.clone(),
                    body: frame.body,
                    caller,
                },
            );
        }
        Effect::Respond { session, frame } => return session.answer(frame.into_answer()),
        Effect::Gate { session, frame } => {
            return for_gate((dispatch, context), stream, session, frame);
        }
        Effect::Bind { session, id, user } => {
            let session = local(context, session, id)?;
            if let Some(user) = user {
                session.inner().rebind(user);
            }
            // To every peer, that one too, so that all end with the same user.
            dispatch.bound(&session);
        }
        Effect::Route {
            session,
            id,
            service,
            address,
        } => {
            let session = local(context, session, id)?;
            session.inner().bindings.set(&service, address.as_deref());
        }
        Effect::Share {
            session,
            id,
            values,
        } => share((dispatch, context), &local(context, session, id)?, values),
        Effect::Multicast { sessions, frame } => return multicast(context, sessions, frame),
        Effect::UserPush(frame) => return push_to_users(context, stream, frame),
        Effect::UserPushesEnded(ended) => {
            for (done, unreached) in ended {
                // The caller may no longer wait.
                let _ = done.send(unreached);
            }
        }
        Effect::Reply(frame) => {
            let caller = context.calls.take(frame.request);
            return caller
                .ok_or_else(|| Error::new(code::NOT_FOUND, "no call waits for this reply"))?
                .answer(frame.into_answer());
        }
        Effect::EndSession { session, cause } => end_session(context, peer, &session, cause),
        Effect::FailRequests { session, requests } => context.fail_requests(&session, requests),
        Effect::Unbind(session) => session.inner().bindings.forget(&peer.address),
        Effect::CancelCall(request) => stream.cancel_served(request),
        Effect::CancelCalls => stream.cancel_all_served(),
        Effect::FailCalls => {
            context.calls.fail_stream(stream.id);
            context.node_services.disconnected(&peer.address);
        }
        Effect::PeerDraining => {
            debug!(peer = %peer.address, stream = index, "peer draining");
            // Publishes the health.
            stream.input(|_| ());
        }
        Effect::PeerIdle => stream.peer_idle(OpenCalls {
            sent: context.calls.streams().contains(&stream.id),
            served: stream.serves_calls(),
        }),
        Effect::RequestTimed { request, failed } => {
            if let Some(times) = &context.metrics.request_seconds {
                times.record(&request.route, failed, request.sent.elapsed());
            }
        }
        Effect::PingTimed(sent) => {
            if let Some(seconds) = &context.metrics.round_trip_seconds {
                seconds.record(sent.elapsed());
            }
            stream.set_round_trip(sent.elapsed());
        }
        Effect::PeerSuspected => {
            let silent_ms = (PROBE_INTERVAL * SUSPECT_AFTER).as_millis();
            warn!(peer = %peer.address, stream = index, silent_ms, "peer suspected");
        }
        Effect::InboundClosed => {
            warn!(peer = %peer.address, stream = index, "peer timed out, closing stream");
            stream.close_inbound();
        }
        Effect::Detached { own, served } => {
            warn!(peer = %peer.address, stream = index, own, served, "partition grace over, sessions detached");
        }
        Effect::Refused(error) => return Err(error),
        Effect::Wake(waker) => waker.wake(),
    }
    Ok(())
}

/// Runs what a frame asks for as part of its trace.
fn traced<R>(dispatch: &Dispatch, context: Option<TraceContext>, run: impl FnOnce() -> R) -> R {
    match context {
        None => run(),
        Some(context) => within(Some(&dispatch.reporter().tracer.remote(context)), run),
    }
}

/// A frame for a session of this gate.
fn for_gate(
    (dispatch, context): (&Dispatch, &LinkContext),
    stream: &Arc<LinkStream>,
    session: Option<Session>,
    mut frame: Frame,
) -> Result {
    let kind = frame.kind();
    let session = local(context, session, frame.session);
    if kind == Kind::CallViaGate {
        let caller = reply_to(stream, &frame);
        let session = match session {
            Ok(session) => session,
            Err(error) => return caller.answer(Err(error)),
        };
        let (to, route) = (frame.take_target(), frame.take_route()?);
        traced(dispatch, frame.take_trace(), || {
            dispatch.call(Call {
                session: Some(session),
                to,
                route,
                body: frame.body,
                caller,
            });
        });
        return Ok(());
    }
    let session = session?;
    match kind {
        Kind::Push => {
            let route = frame.take_route()?;
            return session.sink().push(&Push::new(&route, frame.body));
        }
        Kind::RpcViaGate => {
            let (route, trace) = (frame.take_route()?, frame.take_trace());
            let message = Message::notify(route, frame.body);
            return traced(dispatch, trace, || dispatch.rpc(&session, message));
        }
        Kind::Kick => match frame.take_kick() {
            None => session.kick(frame.take_close().detail),
            Some(kick) => session.kick_with(kick),
        },
        _ => session.close_because(frame.take_close().detail),
    }
    Ok(())
}

fn multicast(
    context: &LinkContext,
    sessions: Vec<(i64, Option<Session>)>,
    mut frame: Frame,
) -> Result {
    let route = frame.take_route()?;
    let push = Push::new(&route, frame.body);
    let failed = sessions
        .into_iter()
        .map(|(id, session)| local(context, session, id)?.sink().push(&push))
        .filter(Result::is_err)
        .count();
    if failed > 0 {
        // Mostly clients that have just gone.
        debug!(failed, %route, "not sent to some clients");
    }
    Ok(())
}

/// Pushes to users at this gate, and notes those that have no session.
fn push_to_users(context: &LinkContext, stream: &LinkStream, mut frame: Frame) -> Result {
    let body = mem::take(&mut frame.body);
    let route = frame.take_route();
    let push = route.as_deref().ok().map(|route| Push::new(route, body));
    let reaches = |user: Option<UserId>| {
        let (Some(push), Some(user)) = (&push, user) else {
            return false;
        };
        let sessions = context.node.sessions();
        sessions.push_to_user(&user, |id| stream_index(id) == stream.id.index, push)
    };
    let (mut users, mut missed) = (0, Vec::new());
    for user in frame.users() {
        if !reaches(user) {
            missed.push(users);
        }
        users += 1;
    }
    stream.frame(|state| state.user_push_handled(frame.request, users, &missed));
    route.map(drop)
}

/// Changes values of a session of this gate. One that does not fit is left as it is, of which the
/// peers learn as of a change.
fn share(
    (dispatch, context): (&Dispatch, &LinkContext),
    session: &Session,
    values: Vec<SharedValue>,
) {
    for SharedValue { key, value } in values {
        let value = (!value.is_empty()).then_some(value);
        if let Err(error) = session.inner().shared.set(&key, value) {
            context.metrics.frame_refused(&error);
            debug!(session = session.id(), key, %error, "shared value refused");
        }
        dispatch.shared(session, &key);
    }
}

/// A session of this gate: one that the peer serves, or one that the peer knows of from elsewhere.
fn local(context: &LinkContext, session: Option<Session>, id: i64) -> Result<Session> {
    session
        .or_else(|| context.node.sessions().find_local(id))
        .ok_or_else(|| super::served_session::unknown(id))
}

/// Answers a call of the peer.
fn reply_to(stream: &Arc<LinkStream>, frame: &Frame) -> Arc<ReplyTo> {
    let (served_by, request) = (stream.clone(), frame.request);
    let call = ReplyTo::new(
        request,
        frame.timeout().map(|timeout| Instant::now() + timeout),
        move |answer| served_by.reply(request, answer),
    );
    stream.serve_call(&call);
    call
}

fn end_session(context: &LinkContext, peer: &LinkPeer, session: &Session, cause: EndCause) {
    let gate = &peer.address;
    let reason = match cause {
        EndCause::Closed(reason) => reason,
        EndCause::NotResumed => {
            CloseReason::Broken("it ended while its gate could not be reached".to_owned())
        }
        EndCause::Unreachable => CloseReason::Broken(format!("the gate {gate} cannot be reached")),
        EndCause::GateGone => CloseReason::Broken(format!("the gate {gate} is gone")),
        EndCause::Shutdown => CloseReason::Shutdown,
    };
    context
        .node
        .sessions()
        .close(session, &reason, context.node.scheduler());
}
