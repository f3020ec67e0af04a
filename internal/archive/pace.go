package archive

import (
	"context"
	"io"
	"sync"
	"time"
)

// pace keeps all readers of an archive together to a rate.
type pace struct {
	rate int64
	mu   sync.Mutex
	due  time.Time // when the bytes that were given out so far are paid for
}

func newPace(rate int64) *pace { return &pace{rate: rate} }

// paceStep bounds what a reader takes at once, so that a low rate is even.
const paceStep = 64 << 10

// wait returns when n more bytes may go.
func (p *pace) wait(ctx context.Context, n int) error {
	if p.rate <= 0 {
		return ctx.Err()
	}
	p.mu.Lock()
	now := time.Now()
	if p.due.Before(now) {
		p.due = now
	}
	p.due = p.due.Add(time.Duration(float64(n) / float64(p.rate) * float64(time.Second)))
	d := p.due.Sub(now)
	p.mu.Unlock()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *pace) reader(ctx context.Context, r io.Reader) io.Reader { return &paced{p, ctx, r} }

type paced struct {
	p   *pace
	ctx context.Context
	r   io.Reader
}

// Read implements io.Reader.
func (x *paced) Read(b []byte) (int, error) {
	if x.p.rate > 0 && len(b) > paceStep {
		b = b[:paceStep]
	}
	n, err := x.r.Read(b)
	if e := x.p.wait(x.ctx, n); e != nil {
		return n, e
	}
	return n, err
}
