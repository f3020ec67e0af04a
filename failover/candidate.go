package failover

import (
	"fmt"

	"repld/wal"
)

// stepCandidate is the way of R5: survey, token, fence, fast-forward, epoch start, replay. Clients are opened only at its
// end, when the epoch-start record is committed and the state holds everything before it (R7).
func (m *Machine) stepCandidate(ev Event) {
	switch ev := ev.(type) {
	case SurveyDone:
		m.surveyDone(ev)
	case TokenWon:
		m.tokenWon(ev)
	case TokenLost:
		if m.expects(m.wait, stageToken, ev.Attempt, ev) {
			m.waitFor(stageSurvey) // nothing was granted: as undisturbed as after the survey
			m.promotionFailed(fmt.Errorf("token of epoch %d not won: %w", m.promotion.plan.Epoch, ev.Err))
		}
	case FenceDone:
		m.fenceDone(ev)
	case FastForwardDone:
		m.fastForwardDone(ev)
	case EpochStarted:
		m.epochStarted(ev)
	case ReplayDone:
		m.replayDone(ev)
	case PromoteRequested:
		m.emit(Report{ID: ev.ID, Err: fmt.Errorf("promotion: %w: another one is at its %s", ErrBusy, m.wait.stage)})
	case SwitchoverRequested:
		m.emit(Report{ID: ev.ID, Err: ErrNotActive})
	case DemoteRequested:
		m.abandon(fmt.Errorf("%w: demoted: %s", ErrFenced, ev.Reason), down{epoch: m.epoch, reports: []Report{{ID: ev.ID}}})
	case HigherEpochSeen:
		m.higherWhileCandidate(ev)
	case StoreFailed:
		m.becomeFailed(ev.Err, Report{ID: m.promotion.id})
	default:
		m.ignore(ev, "this node is a candidate")
	}
}

func (m *Machine) surveyDone(ev SurveyDone) {
	if !m.expects(m.wait, stageSurvey, ev.Attempt, ev) {
		return
	}
	if ev.Err != nil {
		m.promotionFailed(fmt.Errorf("survey: %w", ev.Err))
		return
	}
	p := &m.promotion
	p.token = ev.Token
	p.plan = Decide(m.situation(ev.Answers, 0, p.next))
	if !p.plan.Allowed {
		m.promotionFailed(&RefusedError{Plan: p.plan, Phase: string(stageSurvey)})
		return
	}
	m.waitFor(stageToken)
	m.tell("epoch %d: taking the token", p.plan.Epoch)
	m.emit(AcquireToken{Attempt: m.attempt, Rev: ev.Token.Rev,
		Record: Record{Epoch: p.plan.Epoch, Holder: m.o.Node, Sync: p.plan.Next, Reason: p.options.Reason,
			History: p.plan.History, Forgotten: p.plan.Forgotten}})
}

func (m *Machine) situation(answers []Answer, fenced wal.Epoch, next wal.SyncSet) Situation {
	o := m.promotion.options
	return Situation{Candidate: m.o.Node, Nodes: m.o.Nodes, Answers: answers, Token: m.promotion.token, Shared: m.o.Shared,
		Next: next, Fenced: fenced, AllowDataLoss: o.AllowDataLoss, Bootstrap: o.Bootstrap, Cut: o.Cut}
}

func (m *Machine) tokenWon(ev TokenWon) {
	if !m.expects(m.wait, stageToken, ev.Attempt, ev) {
		return
	}
	p := &m.promotion
	m.epoch = p.plan.Epoch
	m.waitFor(stageFence)
	m.tell("epoch %d: fencing the other nodes", m.epoch)
	m.emit(FencePeers{Attempt: m.attempt, Epoch: m.epoch, Next: p.plan.Next})
}

func (m *Machine) fenceDone(ev FenceDone) {
	if m.wait.stage != stageFence || m.wait.attempt != ev.Attempt {
		m.lateFence(ev)
		return
	}
	if ev.Err != nil {
		m.promotionFailed(fmt.Errorf("fence: %w", ev.Err))
		return
	}
	p := &m.promotion
	p.plan = Decide(m.situation(ev.Answers, m.epoch, p.plan.Next))
	if !p.plan.Allowed {
		m.promotionFailed(&RefusedError{Plan: p.plan, Phase: string(stageFence)})
		return
	}
	if p.plan.Source == m.o.Node {
		m.startEpoch()
		return
	}
	m.waitFor(stageFastForward)
	m.tell("epoch %d: copying the log of %s up to LSN %d", m.epoch, p.plan.Source, p.plan.Target.LSN)
	m.emit(FastForward{Attempt: m.attempt, From: p.plan.Source, To: p.plan.Target})
}

// lateFence is the fence of an attempt that is over. Its job may have ended the following of the active after the machine had asked for that again: a job whose
// turn comes late still runs. So it is asked for once more, unless a fence of the present attempt has ended it on purpose.
func (m *Machine) lateFence(ev FenceDone) {
	m.ignore(ev, fmt.Sprintf("attempt %d is over", ev.Attempt))
	if m.role == RoleStandby || m.wait.stage == stageSurvey || m.wait.stage == stageToken {
		m.emit(m.followed)
	}
}

func (m *Machine) fastForwardDone(ev FastForwardDone) {
	if !m.expects(m.wait, stageFastForward, ev.Attempt, ev) {
		return
	}
	if ev.Err != nil {
		m.promotionFailed(fmt.Errorf("fast-forward from %s: %w", m.promotion.plan.Source, ev.Err))
		return
	}
	m.startEpoch()
}

func (m *Machine) startEpoch() {
	p := &m.promotion
	m.waitFor(stageEpochStart)
	m.tell("epoch %d: committing its first record", m.epoch)
	start := wal.EpochStart{Epoch: m.epoch, Holder: m.o.Node, Sync: p.plan.Next,
		Reason: p.options.Reason, Previous: p.plan.Target, LostFrom: p.plan.Loss.From, LostTo: p.plan.Loss.To}
	if c := p.plan.Cut; c != nil {
		start.CutAt, start.Cut = c.LSN, c.Why
	}
	m.emit(StartEpoch{Attempt: m.attempt, Start: start})
}

func (m *Machine) epochStarted(ev EpochStarted) {
	if !m.expects(m.wait, stageEpochStart, ev.Attempt, ev) {
		return
	}
	if ev.Err != nil {
		m.promotionFailed(fmt.Errorf("start of epoch %d: %w", m.epoch, ev.Err))
		return
	}
	m.promotion.start = ev.LSN
	m.waitFor(stageReplay)
	m.tell("epoch %d: replaying up to LSN %d", m.epoch, ev.LSN)
	m.emit(Replay{Attempt: m.attempt})
}

func (m *Machine) replayDone(ev ReplayDone) {
	if !m.expects(m.wait, stageReplay, ev.Attempt, ev) {
		return
	}
	if ev.Err != nil {
		m.promotionFailed(fmt.Errorf("replay: %w", ev.Err))
		return
	}
	m.becomeActive()
}

func (m *Machine) higherWhileCandidate(ev HigherEpochSeen) {
	if ev.Holder == m.o.Node || ev.Epoch <= m.epoch {
		m.ignore(ev, "not above the epoch of this candidate")
		return
	}
	err := fmt.Errorf("%w: epoch %d was given to %s meanwhile", ErrFenced, ev.Epoch, ev.Holder)
	m.abandon(err, down{follow: ev.Holder, epoch: ev.Epoch})
}

func (m *Machine) promotionFailed(err error) { m.abandon(err, down{epoch: m.epoch}) }

// abandon answers the promotion with err and makes the node a standby again, by way of fenced when a writer may be
// running. Before the token was won the node never stopped following, so it is left in peace, unless d names whom to follow.
func (m *Machine) abandon(err error, d down) {
	report := Report{ID: m.promotion.id, Result: Result{Epoch: m.epoch, Plan: m.promotion.plan}, Err: err}
	if m.wait.stage == stageEpochStart || m.wait.stage == stageReplay {
		d.reports = append([]Report{report}, d.reports...)
		m.becomeFenced("promotion failed: "+err.Error(), d)
		return
	}
	// A token attempt that is cut off may have granted the epoch, which ends the old active's stream as well.
	undisturbed := m.wait.stage == stageSurvey && d.follow == ""
	m.becomeStandby("promotion failed: " + err.Error())
	if !undisturbed {
		m.follow(d.follow, d.epoch)
	}
	m.emit(report)
	for _, r := range d.reports {
		m.emit(r)
	}
}

func (m *Machine) tell(format string, args ...any) {
	m.emit(Tell{ID: m.promotion.id, Text: fmt.Sprintf(format, args...)})
}
