package node

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/failover"
)

// mute is a token store that does not answer for a while.
type mute struct {
	failover.Store
	left atomic.Int64 // calls that fail
}

func (m *mute) Load(ctx context.Context) (failover.Record, error) {
	if m.left.Add(-1) >= 0 {
		return failover.Record{}, errors.New("no answer")
	}
	return m.Store.Load(ctx)
}

// R12, W15: a node without peers whose token store does not answer when it starts takes over once the store does; nobody else would ask it to. (Found by test/sim.)
func TestAloneTokenStoreComesLater(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	if err := fs.MkdirAll("token", 0o700); err != nil {
		t.Fatal(err)
	}
	inner, err := failover.OpenFileStore(failover.FileStoreOptions{FS: fs, Dir: "token"})
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	store := &mute{Store: inner}
	store.left.Store(1)
	c := newCluster(t, 0, func(_ string, o *Options) { o.Token = store }, "a")
	c.start()
	c.settled("a")
	if store.left.Load() >= 0 {
		t.Error("the store was not asked again")
	}
	until(t, func() error {
		if left := c.nodes["a"].group.alarms.list(); len(left) > 0 {
			return fmt.Errorf("alarms %v", left)
		}
		return nil
	})
}
