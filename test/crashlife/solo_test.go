package crashlife

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/internal/admin"
	"repld/internal/faultfs"
)

// solo is one recorded life of a node without peers.
type solo struct {
	*testing.T
	disk  *faultfs.Disk
	model *model
	host  *host
}

func (s *solo) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// write writes n times, one after the other, and notes what was acked.
func (s *solo) write(n, from int) {
	s.Helper()
	for i := range n {
		s.must(put(s.host, s.model, keyName((from+i*7)%keys)))
	}
}

// put writes the next version of a key and notes the ack.
func put(h *host, m *model, key string) error {
	v := m.next(key)
	if _, err := h.client.do("SET", key, valueOf(key, v)); err != nil {
		return err
	}
	m.ack(key, v)
	return nil
}

// several writes versions of keys in one pipeline: they share frames.
func (s *solo) several(from, n int) {
	s.Helper()
	var b strings.Builder
	versions := make([]int, n)
	for i := range n {
		key := keyName((from + i) % keys)
		versions[i] = s.model.next(key)
		value := valueOf(key, versions[i])
		fmt.Fprintf(&b, "*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", len(key), key, len(value), value)
	}
	var sending sync.WaitGroup
	sending.Go(func() { _, _ = s.host.client.conn.Write([]byte(b.String())) })
	for i := range n {
		_, err := s.host.client.reply()
		s.must(err)
		s.model.ack(keyName((from+i)%keys), versions[i])
	}
	sending.Wait()
}

func (s *solo) start() {
	s.Helper()
	s.must(s.host.start())
	s.must(s.host.active())
	s.model.epoch("a", s.host.status().Epoch)
}

// newSolo has not started yet.
func newSolo(t *testing.T) *solo {
	disk := faultfs.NewDisk()
	return &solo{T: t, disk: disk, model: newModel(disk.Clock().Now), host: &host{name: "a", fs: disk}}
}

func record(t *testing.T) *solo {
	s := newSolo(t)
	s.live()
	return s
}

// live: first boot, writes, rotation, flush, trim, clean stop, restart, demotion, promotion, clean stop.
func (s *solo) live() {
	s.start()
	s.write(20, 0)
	s.must(until(func() error {
		s.several(3, 16)
		if what := missing(s.disk.Trace()); what != "" {
			return fmt.Errorf("no %s", what)
		}
		return nil
	}))
	s.must(s.host.stop())
	s.start()
	s.write(6, 3)
	s.must(s.host.post(admin.PathDemote, admin.DemoteRequest{Reason: "test"}))
	s.must(s.host.promote(admin.PromoteRequest{Reason: "test"}))
	s.must(s.host.active())
	s.model.epoch("a", s.host.status().Epoch)
	s.write(6, 5)
	s.must(s.host.stop())
}

// missing says what the life has not met yet of what it is to meet before it first stops.
func missing(ops []faultfs.Op) string {
	for what, match := range map[string]func(faultfs.Op) bool{
		"rotation": func(o faultfs.Op) bool { return strings.HasSuffix(o.To, "3.seg") },
		"trim":     func(o faultfs.Op) bool { return strings.HasSuffix(o.To, ".spare") },
		"reuse":    func(o faultfs.Op) bool { return strings.HasSuffix(o.Path, ".spare") && o.Kind == faultfs.OpRename },
		"flush":    func(o faultfs.Op) bool { return strings.HasSuffix(o.Path, ".sst") && o.Kind == faultfs.OpCreate },
		"deletion": func(o faultfs.Op) bool { return strings.HasSuffix(o.Path, ".sst") && o.Kind == faultfs.OpRemove },
		"token":    func(o faultfs.Op) bool { return strings.HasSuffix(o.To, ".token") },
	} {
		if !slices.ContainsFunc(ops, match) {
			return what
		}
	}
	return ""
}

// recovered opens what a crash at operation n left, and expects all that had been promised by then. The node takes the token again by itself, without
// consent to any loss.
func (s *solo) recovered(n int, disk *faultfs.Disk) error { return s.recoveredOn(n, disk) }

func (s *solo) recoveredOn(n int, fs vfs.FS) error {
	h := &host{name: "a", fs: fs}
	if err := h.open(); err != nil {
		return fmt.Errorf("open: %w", err)
	}
	if got, want := h.status().Epoch, s.model.promised("a", n); got < want {
		return errors.Join(&lieError{fmt.Errorf("epoch %d, %d was promised (R3)", got, want)}, h.node.Close())
	}
	if err := h.run(); err != nil {
		return errors.Join(err, h.stop())
	}
	err := func() error {
		if err := h.active(); err != nil {
			return err
		}
		found, err := h.all()
		if err != nil {
			return err
		}
		if err := s.model.check(n, found); err != nil {
			return &lieError{err}
		}
		return nil
	}()
	return errors.Join(err, h.stop()) // a node that stopped says why; its client saw only that it went away
}

// lieError: the node went on with something wrong.
type lieError struct{ error }

// TestSolo cuts the power at the operations of a node's life (R1, R3, R8, R11; FAULTS P1, P2, D1, D2, D21, D22).
// Faults: P1, P2, D1, D2, D21, D22 (power cuts of a whole node)
func TestSolo(t *testing.T) {
	s := record(t)
	ops := s.disk.Trace()
	t.Logf("%d operations, %d bytes on disk", len(ops), s.disk.Used())
	run(t, cases(s.disk, s.disk.Clock().Now()), budget(t, 10), func(c crash) error {
		image := s.disk.Crash(c.at, c.policy)
		if err := s.recovered(c.at, image); err != nil {
			return fmt.Errorf("%w%s", err, keep(s.disk.Crash(c.at, c.policy)))
		}
		if c.again == 0 {
			return nil
		}
		// The power fails again while the node recovers, or soon after (P2).
		second := int(c.again % uint64(image.Clock().Now()+1))
		if err := s.recovered(c.at, image.Crash(second, faultfs.Random(c.again).InOrder(pebbles))); err != nil {
			return fmt.Errorf("second crash, at %d of the recovery: %w%s", second, err, keep(image.Crash(second, faultfs.Random(c.again).InOrder(pebbles))))
		}
		return nil
	})
}
