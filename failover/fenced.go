package failover

import "fmt"

// becomeFenced puts the writer away; d says what comes after. Clients are closed first, so that no write is taken in while the writer drains.
func (m *Machine) becomeFenced(reason string, d down) {
	m.become(RoleFenced, reason)
	m.down = d
	m.attempt++
	m.waitFor(stageStopWriter)
	m.emit(CloseClients{Reason: reason}, StopWriter{Attempt: m.attempt})
}

// becomeFailed is the end of this process: after a failed sync nothing more is acked and nothing is retried (R10).
func (m *Machine) becomeFailed(err error, reports ...Report) {
	for i := range reports {
		reports[i].Err = fmt.Errorf("%w: %w", ErrFailed, err)
	}
	m.becomeFenced("storage failed: "+err.Error(), down{failed: err})
	for _, r := range reports {
		m.emit(r)
	}
	m.emit(Exit{Err: err})
}

func (m *Machine) stepFenced(ev Event) {
	switch ev := ev.(type) {
	case WriterStopped:
		m.writerStopped(ev)
	case PromoteRequested:
		m.emit(Report{ID: ev.ID, Err: m.whyFenced()})
	case SwitchoverRequested:
		m.emit(Report{ID: ev.ID, Err: m.whyFenced()})
	case DemoteRequested:
		if m.down.failed != nil {
			m.emit(Report{ID: ev.ID, Err: m.whyFenced()})
			return
		}
		m.down.reports = append(m.down.reports, Report{ID: ev.ID})
	case HigherEpochSeen:
		if ev.Epoch >= m.down.epoch && ev.Holder != m.o.Node {
			m.down.follow, m.down.epoch = ev.Holder, ev.Epoch
		}
	case StoreFailed:
		if m.down.failed != nil {
			m.ignore(ev, "storage failed before")
			return
		}
		m.becomeFailed(ev.Err, append(m.down.reports, m.endSwitchover()...)...)
	default:
		m.ignore(ev, "this node is fenced")
	}
}

func (m *Machine) whyFenced() error {
	if m.down.failed != nil {
		return fmt.Errorf("%w: %w", ErrFailed, m.down.failed)
	}
	return fmt.Errorf("stepping down: %w", ErrBusy)
}

func (m *Machine) writerStopped(ev WriterStopped) {
	if !m.expects(m.wait, stageStopWriter, ev.Attempt, ev) {
		return
	}
	m.wait = wait{}
	if m.down.failed != nil {
		return
	}
	if ev.Err != nil {
		m.stopFailed(fmt.Errorf("stop writer: %w", ev.Err))
		return
	}
	d := m.down
	m.becomeStandby("the writer has stopped")
	m.follow(d.follow, d.epoch)
	for _, r := range d.reports {
		m.emit(r)
	}
}

// stopFailed: a writer that cannot be stopped may still write; only the end of the process is sure to stop it.
func (m *Machine) stopFailed(err error) {
	if m.down.failed != nil {
		return // it is leaving already
	}
	reports := append(m.down.reports, m.endSwitchover()...)
	m.down = down{failed: err}
	for _, r := range reports {
		r.Err = fmt.Errorf("%w: %w", ErrFailed, err)
		m.emit(r)
	}
	m.emit(Exit{Err: err})
}
