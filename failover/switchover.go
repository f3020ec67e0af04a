package failover

import (
	"fmt"
	"slices"
)

// A switchover: writes wait, everything is committed and durable on the other node, which then promotes itself with this node's
// help. Until this node has granted the higher epoch it can take the writes back, and does so on any failure.

func (m *Machine) beginSwitchover(ev SwitchoverRequested) {
	s := &m.switchover
	switch {
	case s.wait.stage != stageNone:
		m.emit(Report{ID: ev.ID, Err: fmt.Errorf("switchover to %s: %w", s.to, ErrBusy)})
		return
	case ev.To == m.o.Node || !slices.Contains(m.o.Nodes, ev.To):
		m.emit(Report{ID: ev.ID, Err: fmt.Errorf("switchover to %q: %w: not another data node", ev.To, ErrInvalid)})
		return
	}
	m.attempt++
	*s = switchover{id: ev.ID, to: ev.To, wait: wait{stage: stageDrain, attempt: m.attempt}}
	m.emit(PauseWrites{}, Tell{ID: s.id, Text: "writes are paused"}, Drain{Attempt: m.attempt, To: s.to})
}

func (m *Machine) drained(ev Drained) {
	s := &m.switchover
	if !m.expects(s.wait, stageDrain, ev.Attempt, ev) {
		return
	}
	if ev.Err != nil {
		m.switchoverFailed(fmt.Errorf("drain: %w", ev.Err))
		return
	}
	s.wait = wait{stage: stageHandOver, attempt: ev.Attempt}
	m.emit(Tell{ID: s.id, Text: fmt.Sprintf("%s has everything up to LSN %d", s.to, ev.Position.LSN)},
		HandOver{Attempt: ev.Attempt, To: s.to, At: ev.Position})
}

// handedOver may come after the higher epoch was seen, in any role.
func (m *Machine) handedOver(ev HandedOver) {
	s := m.switchover
	if !m.expects(s.wait, stageHandOver, ev.Attempt, ev) {
		return
	}
	if ev.Err != nil {
		m.switchoverFailed(fmt.Errorf("hand-over to %s: %w", s.to, ev.Err))
		return
	}
	m.switchover = switchover{}
	r := Report{ID: s.id, Result: Result{Epoch: ev.Epoch}}
	switch {
	case m.role == RoleActive:
		m.becomeFenced(fmt.Sprintf("switchover to %s in epoch %d", s.to, ev.Epoch), down{follow: s.to, epoch: ev.Epoch, reports: []Report{r}})
	case m.role == RoleFenced && m.down.failed == nil:
		m.down.reports = append(m.down.reports, r)
	default:
		m.emit(r)
	}
}

// switchoverFailed resumes writes if this node still holds its epoch. The other node may still be promoting itself: that is the same
// as any promotion, and fences this node when it succeeds (R4).
func (m *Machine) switchoverFailed(err error) {
	s := m.switchover
	m.switchover = switchover{}
	m.emit(Cancel{Attempt: s.wait.attempt})
	if m.role == RoleActive {
		m.emit(ResumeWrites{})
	} else {
		err = fmt.Errorf("%w: this node has already given its epoch up: %w", ErrFenced, err)
	}
	m.emit(Report{ID: s.id, Err: err})
}

// endSwitchover forgets a switchover and returns its report to be filled in.
func (m *Machine) endSwitchover() []Report {
	s := m.switchover
	if s.wait.stage == stageNone {
		return nil
	}
	m.switchover = switchover{}
	m.emit(Cancel{Attempt: s.wait.attempt})
	return []Report{{ID: s.id}}
}
