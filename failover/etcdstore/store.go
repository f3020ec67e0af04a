package etcdstore

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"repld/failover"
	"repld/internal/strict"
)

// Store is the token in etcd.
type Store struct {
	o      Options
	client *clientv3.Client
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
}

var _ failover.Store = (*Store)(nil)

// stored is the value of the key.
type stored struct {
	Version int             `json:"version"`
	Nonce   string          `json:"nonce"` // of the CompareAndSet that wrote it
	Record  failover.Record `json:"record"`
}

const (
	formatVersion = 1
	maxValue      = 256 << 10 // bytes
)

// Open prepares the client. etcd need not answer yet: a node starts without it.
func Open(o Options) (*Store, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	s := &Store{o: o}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	var err error
	s.client, err = clientv3.New(clientv3.Config{
		Endpoints: o.Endpoints, Username: o.Username, Password: o.Password, TLS: o.TLS, Context: s.ctx, Logger: zap.NewNop(),
		DialTimeout: o.Timeout, DialKeepAliveTime: time.Second, DialKeepAliveTimeout: 2 * time.Second, PermitWithoutStream: true, RejectOldCluster: false,
	})
	if err != nil {
		s.cancel()
		return nil, fmt.Errorf("etcd client: %w", err)
	}
	return s, nil
}

// Shared implements failover.Store.
func (s *Store) Shared() bool { return true }

// bound limits a call to the timeout and to the life of the store.
func (s *Store) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.o.Timeout, fmt.Errorf("etcd does not answer within %s", s.o.Timeout))
	stop := context.AfterFunc(s.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// explain says why a call failed in the words of failover.
func (s *Store) explain(ctx context.Context, what string, err error) error {
	switch {
	case s.ctx.Err() != nil:
		return fmt.Errorf("token store: %w", failover.ErrClosed)
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	}
	return fmt.Errorf("%s: %w", what, err)
}

// Load implements failover.Store.
func (s *Store) Load(ctx context.Context) (failover.Record, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	v, _, _, err := s.get(ctx)
	return v.Record, err
}

// get reads the key: its value, the etcd revision that wrote it (0 when it is not there), and that of the answer.
func (s *Store) get(ctx context.Context) (v stored, mod, rev int64, err error) {
	resp, err := s.client.Get(ctx, s.o.Key)
	if err != nil {
		return v, 0, 0, s.explain(ctx, "read token", err)
	}
	if len(resp.Kvs) == 0 {
		return v, 0, resp.Header.Revision, nil
	}
	v, err = decode(resp.Kvs[0].Value)
	if err != nil {
		return v, 0, 0, fmt.Errorf("etcd key %s: %w", s.o.Key, err)
	}
	return v, resp.Kvs[0].ModRevision, resp.Header.Revision, nil
}

// CompareAndSet implements failover.Store.
func (s *Store) CompareAndSet(ctx context.Context, rev uint64, next failover.Record) (failover.Record, error) {
	outer := ctx
	ctx, cancel := s.bound(ctx)
	defer cancel()
	cur, mod, _, err := s.get(ctx)
	if err != nil {
		return failover.Record{}, err
	}
	next, err = failover.Advance(cur.Record, rev, next)
	if err != nil {
		return cur.Record, err
	}
	v := stored{Version: formatVersion, Nonce: rand.Text(), Record: next}
	doc, err := json.Marshal(v)
	if err != nil || len(doc) > maxValue {
		return failover.Record{}, fmt.Errorf("token: %w: record of %d bytes: %w", failover.ErrInvalid, len(doc), err)
	}
	resp, err := s.client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(s.o.Key), "=", mod)).Then(clientv3.OpPut(s.o.Key, string(doc))).Commit()
	if err == nil && resp.Succeeded {
		return next, nil
	}
	return s.outcome(outer, v, errors.Join(err, lost(err)))
}

// errOvertaken: the key was changed between our read and our transaction.
var errOvertaken = errors.New("the token changed meanwhile")

func lost(err error) error {
	if err == nil {
		return errOvertaken
	}
	return nil
}

// outcome finds out what became of v after its transaction did not say that it succeeded. When the token has moved on from what v was made for, v can
// never be written any more.
func (s *Store) outcome(ctx context.Context, v stored, why error) (failover.Record, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	now, _, _, err := s.get(ctx)
	switch {
	case err != nil:
		return failover.Record{}, fmt.Errorf("token revision %d: outcome unknown: %w", v.Record.Rev, errors.Join(why, err))
	case now.Nonce == v.Nonce:
		return now.Record, nil
	case now.Record.Rev >= v.Record.Rev:
		return now.Record, fmt.Errorf("token revision %d: %w: revision %d, epoch %d is held by %s", v.Record.Rev, failover.ErrConflict, now.Record.Rev, now.Record.Epoch, now.Record.Holder)
	}
	return failover.Record{}, fmt.Errorf("token revision %d: outcome unknown: %w", v.Record.Rev, why)
}

// watchAgain is how soon a watch that broke begins anew.
const watchAgain = 200 * time.Millisecond

// Watch implements failover.Store. While etcd does not answer it waits.
func (s *Store) Watch(ctx context.Context, after uint64) (failover.Record, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	for {
		v, _, rev, err := s.get(ctx)
		if err == nil && v.Record.Rev > after {
			return v.Record, nil
		}
		if err == nil {
			s.changed(ctx, rev)
			continue
		}
		if ctx.Err() != nil {
			return failover.Record{}, err
		}
		s.o.Logger.Debug("token cannot be watched", "error", err)
		again := time.NewTimer(watchAgain)
		select {
		case <-again.C:
		case <-ctx.Done():
		}
		again.Stop()
	}
}

// changed waits until the key may have changed after etcd's revision rev.
func (s *Store) changed(ctx context.Context, rev int64) {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel() // ends the watch
	<-s.client.Watch(ctx, s.o.Key, clientv3.WithRev(rev+1))
}

// decode reads a value strictly: a field that is not known is a promise that would not be kept.
func decode(b []byte) (v stored, err error) {
	if err := strict.Decode(b, &v); err != nil {
		if json.Unmarshal(b, &struct {
			Version *int `json:"version"`
		}{&v.Version}) == nil && v.Version > formatVersion {
			return v, fmt.Errorf("%w: %d", failover.ErrVersion, v.Version)
		}
		return v, fmt.Errorf("%w: %w", failover.ErrCorrupt, err)
	}
	if v.Version != formatVersion {
		return v, fmt.Errorf("%w: %d", failover.ErrVersion, v.Version)
	}
	if v.Record.Rev == 0 || v.Record.Epoch == 0 || v.Record.Holder == "" {
		return v, fmt.Errorf("%w: revision %d, epoch %d held by %q", failover.ErrCorrupt, v.Record.Rev, v.Record.Epoch, v.Record.Holder)
	}
	return v, nil
}

// Close ends every call.
func (s *Store) Close() error {
	if s.ctx.Err() != nil {
		return nil
	}
	s.cancel()
	if err := s.client.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("close etcd client: %w", err)
	}
	return nil
}
