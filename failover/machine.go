package failover

import (
	"fmt"
	"slices"

	"repld/wal"
)

// stage is what a machine waits for. Each has a bound in ticks (R12).
type stage string

const (
	stageNone        stage = ""
	stageSurvey      stage = "survey"
	stageToken       stage = "token"
	stageFence       stage = "fence"
	stageFastForward stage = "fast-forward"
	stageEpochStart  stage = "epoch start"
	stageReplay      stage = "replay"
	stageDrain       stage = "drain"
	stageHandOver    stage = "hand-over"
	stageStopWriter  stage = "stop of the writer"
)

// MachineOptions configures a Machine.
type MachineOptions struct {
	Node   string   // this node
	Nodes  []string // all configured data nodes, this one among them
	Shared bool     // Store.Shared
	// Bound is the number of ticks that a stage may last, by stage: survey, token, fence, fast-forward, "epoch start",
	// replay, drain, hand-over, "stop of the writer".
	Bound func(stage string) int
}

// Machine is the role of one node in one group: events in, actions out, no I/O, no clock, no goroutine (drawing in
// doc.go). One goroutine calls Step; the Runner is that goroutine.
type Machine struct {
	o       MachineOptions
	role    Role
	epoch   wal.Epoch // won by this node, while it is candidate, active or fenced; else 0
	attempt uint64    // numbers promotions, switchovers and step-downs; completions of earlier ones are stale
	wait    wait      // what the role waits for

	promotion  promotion  // while candidate
	switchover switchover // from the request until its report, which may come after the role changed
	down       down       // while fenced

	followed FollowActive // as last asked for

	out []Action
}

// wait is one stage with its age.
type wait struct {
	stage   stage
	attempt uint64
	ticks   int
}

// promotion is what a candidate remembers from stage to stage.
type promotion struct {
	id      uint64
	options PromoteOptions
	next    wal.SyncSet
	token   Record
	plan    Plan
	start   wal.LSN
}

// switchover is a hand-over under way.
type switchover struct {
	id   uint64
	to   string
	wait wait
}

// down is what a fenced node does once its writer has stopped.
type down struct {
	follow  string
	epoch   wal.Epoch
	reports []Report // requests that are answered when the node is a standby
	failed  error    // storage failed: it never leaves this role (R10)
}

// NewMachine returns a standby.
func NewMachine(o MachineOptions) *Machine {
	return &Machine{o: o, role: RoleStandby}
}

// Role returns the current role.
func (m *Machine) Role() Role { return m.role }

// Epoch returns the epoch that this node won, 0 for a standby.
func (m *Machine) Epoch() wal.Epoch { return m.epoch }

// Step takes one event and returns what is to be done, in order.
func (m *Machine) Step(ev Event) []Action {
	m.out = nil
	switch ev := ev.(type) {
	case Tick:
		m.tick()
	case Progressed:
		m.progressed(ev)
	case Drained:
		m.drained(ev)
	case HandedOver:
		m.handedOver(ev)
	default:
		m.stepRole(ev)
	}
	m.assert()
	return m.out
}

func (m *Machine) stepRole(ev Event) {
	switch m.role {
	case RoleStandby:
		m.stepStandby(ev)
	case RoleCandidate:
		m.stepCandidate(ev)
	case RoleActive:
		m.stepActive(ev)
	case RoleFenced:
		m.stepFenced(ev)
	}
}

// assert holds what is true between events. A violation is our own bug.
func (m *Machine) assert() {
	bad := (m.role == RoleStandby && (m.epoch != 0 || m.wait.stage != stageNone)) ||
		(m.role == RoleActive && (m.epoch == 0 || m.wait.stage != stageNone)) ||
		(m.role == RoleCandidate && m.wait.stage == stageNone)
	if bad {
		panic(fmt.Sprintf("failover: role %s with epoch %d waiting for %q", m.role, m.epoch, m.wait.stage))
	}
}

func (m *Machine) emit(as ...Action) { m.out = append(m.out, as...) }

func (m *Machine) ignore(ev Event, reason string) { m.emit(Ignored{Event: ev, Reason: reason}) }

func (m *Machine) waitFor(s stage) { m.wait = wait{stage: s, attempt: m.attempt} }

// expects reports whether a completion belongs to the stage that is waited for; otherwise it says why it is dropped.
func (m *Machine) expects(w wait, s stage, attempt uint64, ev Event) bool {
	if w.stage == s && w.attempt == attempt {
		return true
	}
	m.ignore(ev, fmt.Sprintf("attempt %d of %s is over", attempt, s))
	return false
}

// become sets what every change of role sets, and cancels what the old role was doing.
func (m *Machine) become(role Role, reason string) {
	if m.wait.stage != stageNone {
		m.emit(Cancel{Attempt: m.wait.attempt})
	}
	old := m.role
	m.role, m.wait = role, wait{}
	m.promotion = promotion{}
	m.emit(RoleChanged{RoleChange{Old: old, New: role, Epoch: m.epoch, Reason: reason}})
}

func (m *Machine) becomeStandby(reason string) {
	m.epoch, m.down = 0, down{}
	m.become(RoleStandby, reason)
}

func (m *Machine) becomeCandidate(ev PromoteRequested) {
	m.become(RoleCandidate, "promotion asked for: "+ev.Options.Reason)
	m.attempt++
	m.promotion = promotion{id: ev.ID, options: ev.Options, next: ev.Next}
	m.waitFor(stageSurvey)
	if seen := ev.Options.Surveyed; seen != nil {
		m.surveyDone(SurveyDone{Attempt: m.attempt, Answers: seen.Answers, Token: seen.Token})
		return
	}
	m.emit(Survey{Attempt: m.attempt})
}

func (m *Machine) becomeActive() {
	p := m.promotion
	m.wait = wait{} // replay is done: nothing to cancel
	m.become(RoleActive, "promoted: "+p.options.Reason)
	m.emit(OpenClients{Epoch: m.epoch},
		Report{ID: p.id, Result: Result{Epoch: m.epoch, Start: p.start, Plan: p.plan}})
}

func (m *Machine) stepStandby(ev Event) {
	switch ev := ev.(type) {
	case Started:
		m.follow(ev.Holder, ev.Epoch)
	case PromoteRequested:
		m.becomeCandidate(ev)
	case DemoteRequested:
		m.emit(Report{ID: ev.ID}) // idempotent: it is not active
	case SwitchoverRequested:
		m.emit(Report{ID: ev.ID, Err: ErrNotActive})
	case HigherEpochSeen:
		m.follow(ev.Holder, ev.Epoch)
	case FenceDone:
		m.lateFence(ev)
	case StoreFailed:
		m.becomeFailed(ev.Err)
	default:
		m.ignore(ev, "this node is a standby")
	}
}

func (m *Machine) stepActive(ev Event) {
	switch ev := ev.(type) {
	case PromoteRequested:
		m.emit(Report{ID: ev.ID, Result: Result{Epoch: m.epoch, Already: true}})
	case DemoteRequested:
		if m.switchover.wait.stage != stageNone {
			m.emit(Report{ID: ev.ID, Err: fmt.Errorf("switchover to %s: %w", m.switchover.to, ErrBusy)})
			return
		}
		m.becomeFenced("demoted: "+ev.Reason, down{epoch: m.epoch, reports: []Report{{ID: ev.ID}}})
	case SwitchoverRequested:
		m.beginSwitchover(ev)
	case HigherEpochSeen:
		m.higherWhileActive(ev)
	case StoreFailed:
		m.becomeFailed(ev.Err, m.endSwitchover()...)
	default:
		m.ignore(ev, "this node is active")
	}
}

func (m *Machine) higherWhileActive(ev HigherEpochSeen) {
	if ev.Holder == m.o.Node || ev.Epoch <= m.epoch {
		m.ignore(ev, fmt.Sprintf("epoch %d is ours", m.epoch))
		return
	}
	d := down{follow: ev.Holder, epoch: ev.Epoch}
	reason := fmt.Sprintf("epoch %d is held by %s", ev.Epoch, ev.Holder)
	if s := m.switchover; s.wait.stage == stageHandOver && s.to == ev.Holder {
		reason = fmt.Sprintf("switchover to %s in epoch %d", ev.Holder, ev.Epoch) // answered when it says that it is active
	} else if s.wait.stage != stageNone {
		for _, r := range m.endSwitchover() {
			r.Err = fmt.Errorf("%w: %s", ErrFenced, reason)
			m.emit(r)
		}
	}
	m.becomeFenced(reason, d)
}

// follow makes this node a standby of holder; after an epoch of its own nobody is active.
func (m *Machine) follow(holder string, epoch wal.Epoch) {
	if holder == m.o.Node {
		holder = ""
	}
	m.followed = FollowActive{Node: holder, Epoch: epoch}
	m.emit(m.followed)
}

// tick ages what is waited for, and ends it at its bound.
func (m *Machine) tick() {
	if s := &m.switchover.wait; m.expired(s) {
		m.switchoverFailed(timeout(s.stage))
	}
	if !m.expired(&m.wait) {
		return
	}
	err := timeout(m.wait.stage)
	if m.wait.stage == stageStopWriter {
		m.emit(Cancel{Attempt: m.wait.attempt})
		m.wait = wait{}
		m.stopFailed(err)
		return
	}
	m.promotionFailed(err)
}

func (m *Machine) expired(w *wait) bool {
	if w.stage == stageNone {
		return false
	}
	w.ticks++
	return w.ticks >= m.o.Bound(string(w.stage))
}

func timeout(s stage) error { return fmt.Errorf("%s: %w", s, ErrTimeout) }

func (m *Machine) progressed(ev Progressed) {
	if m.wait.attempt != ev.Attempt || !slices.Contains([]stage{stageFastForward, stageReplay}, m.wait.stage) {
		m.ignore(ev, "nothing to extend")
		return
	}
	m.wait.ticks = 0
	m.emit(Tell{ID: m.promotion.id, Text: ev.Text})
}
