package node

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"repld/internal/server"
	"repld/wal"
)

// A phase is a part of a write's way on the active. They follow each other, so their sums tell what bounds the clients. All but the last are measured once a frame, from its oldest record.
type phase int

const (
	phaseQueue     phase = iota // from its record to the frame being made: the frame before is under way, or this one gathers
	phaseEncode                 // checksum and compression
	phaseSync                   // write and fsync of the own log
	phaseReplicate              // from there until the commit rule holds: 0 without sync standbys, short if they are as fast
	phaseApply                  // until it is in the state
	phaseReply                  // from the answer to its bytes being given to the kernel, once a batch of a connection
	phaseCount
)

var phaseNames = [phaseCount]string{"queue", "encode", "fsync", "replicate", "apply", "reply"}

// phases are the histograms, and the frames on their way.
type phases struct {
	of [phaseCount]prometheus.Histogram

	mu struct {
		sync.Mutex
		flight []frameOnItsWay // in LSN order
	}
}

type frameOnItsWay struct {
	last      wal.LSN
	durable   time.Time
	committed time.Time // zero until then
}

func newPhases() *phases {
	p := new(phases)
	for i := range p.of {
		p.of[i] = prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "repld_write_phase_seconds", Help: "parts of a write's way, on the active: queue, encode, fsync, replicate, apply once a frame, reply once a batch of a connection",
			ConstLabels: prometheus.Labels{"phase": phaseNames[i]}, Buckets: prometheus.ExponentialBuckets(10e-6, 2, 20), // to 5 s
		})
	}
	return p
}

func (p *phases) observe(i phase, d time.Duration) { p.of[i].Observe(max(d, 0).Seconds()) }

// frame is wal.WriterOptions.OnFrame.
func (p *phases) frame(f wal.FrameTimes) {
	p.observe(phaseQueue, f.Queued)
	p.observe(phaseEncode, f.Encoded)
	p.observe(phaseSync, f.Synced)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.flight = append(p.mu.flight, frameOnItsWay{last: f.Last, durable: time.Now()})
}

// committed is told how far the log is committed.
func (p *phases) committed(lsn wal.LSN) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var now time.Time
	for i := range p.mu.flight {
		f := &p.mu.flight[i]
		if f.last > lsn {
			return
		}
		if f.committed.IsZero() {
			if now.IsZero() {
				now = time.Now()
			}
			f.committed = now
			p.observe(phaseReplicate, now.Sub(f.durable))
		}
	}
}

// applied is told what is in the state.
func (p *phases) applied(lsn wal.LSN) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for ; n < len(p.mu.flight) && p.mu.flight[n].last <= lsn; n++ {
		if at := p.mu.flight[n].committed; !at.IsZero() {
			p.observe(phaseApply, time.Since(at))
		}
	}
	p.mu.flight = append(p.mu.flight[:0], p.mu.flight[n:]...)
}

// forget drops the frames of an epoch that ended here: their records may never be committed.
func (p *phases) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.flight = nil
}

// replied is server.Options.OnReply.
func (p *phases) replied(d time.Duration) { p.observe(phaseReply, d) }

// collect gives the histograms to a scrape.
func (p *phases) collect(out chan<- prometheus.Metric) {
	for _, h := range p.of {
		out <- h
	}
}

// list is what INFO shows.
func (p *phases) list() []server.Phase {
	out := make([]server.Phase, 0, phaseCount)
	for i, h := range p.of {
		var m dto.Metric
		if h.Write(&m) != nil {
			continue // of a histogram without labels that cannot be
		}
		s := server.Phase{Name: phaseNames[i], Count: m.Histogram.GetSampleCount(), Sum: time.Duration(m.Histogram.GetSampleSum() * float64(time.Second))}
		s.P50, s.P99 = quantile(m.Histogram, 0.50), quantile(m.Histogram, 0.99)
		out = append(out, s)
	}
	return out
}

// quantile interpolates within the bucket, as Prometheus' histogram_quantile does.
func quantile(h *dto.Histogram, q float64) time.Duration {
	want, below, from := q*float64(h.GetSampleCount()), 0.0, 0.0
	for _, b := range h.Bucket {
		count, to := float64(b.GetCumulativeCount()), b.GetUpperBound()
		if count >= want && count > below {
			return time.Duration((from + (to-from)*(want-below)/(count-below)) * float64(time.Second))
		}
		below, from = count, to
	}
	return time.Duration(from * float64(time.Second))
}
