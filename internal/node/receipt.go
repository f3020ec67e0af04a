package node

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"repld/internal/admin"
	"repld/internal/server"
	"repld/wal"
)

var _ server.Historian = (*backend)(nil)

const peerReceipt = "/peer/v1/receipt" // POST: whether a receipt is of this node's history

// Receipt implements server.Historian.
func (b *backend) Receipt(lsn wal.LSN) (wal.Position, error) {
	f, err := b.log.FrameAt(lsn)
	if err != nil {
		return wal.Position{}, err
	}
	return wal.Position{Epoch: f.Epoch, LSN: lsn, Hash: f.End().Hash}, nil
}

// InHistory implements server.Historian.
func (b *backend) InHistory(p wal.Position) (server.Verdict, string) { return b.inHistory(p) }

// inHistory compares a receipt with this node's log. Only what the log shows is said: a log that does not reach the record says nothing, unless it has gone on without it in a newer
// epoch.
func (g *group) inHistory(p wal.Position) (server.Verdict, string) {
	start, end := g.log.Start(), g.log.Durable()
	switch {
	case p.LSN == 0:
		return server.VerdictUnknown, "a receipt of no record"
	case p.LSN <= start.LSN:
		return server.VerdictUnknown, fmt.Sprintf("the log of %s begins behind LSN %d: it was trimmed", g.o.Name, start.LSN)
	case p.LSN > end.LSN && end.Epoch > p.Epoch:
		return server.VerdictNotIn, fmt.Sprintf("the log of %s went on in epoch %d and ends at LSN %d: the record is not in it", g.o.Name, end.Epoch, end.LSN)
	case p.LSN > end.LSN:
		return server.VerdictUnknown, fmt.Sprintf("the log of %s ends at LSN %d of epoch %d: it has not come so far", g.o.Name, end.LSN, end.Epoch)
	}
	f, err := g.log.FrameAt(p.LSN)
	switch {
	case errors.Is(err, wal.ErrTrimmed):
		return server.VerdictUnknown, fmt.Sprintf("the log of %s begins behind LSN %d: it was trimmed", g.o.Name, g.log.Start().LSN)
	case err != nil:
		return server.VerdictUnknown, fmt.Sprintf("the log of %s could not be read: %v", g.o.Name, err)
	}
	here := wal.Position{Epoch: f.Epoch, LSN: p.LSN, Hash: f.End().Hash}
	if here != p {
		return server.VerdictNotIn, fmt.Sprintf("%s has %s there", g.o.Name, here)
	}
	return server.VerdictIn, fmt.Sprintf("%s has it in a frame of %s, up to LSN %d", g.o.Name, f.Time.UTC().Format("2006-01-02T15:04:05.000Z"), f.Last())
}

// receiptHere answers for this node.
func (g *group) receiptHere(_ context.Context, r admin.ReceiptRequest) (admin.ReceiptRow, error) {
	p, err := wal.ParsePosition(r.Receipt)
	if err != nil {
		return admin.ReceiptRow{}, &admin.Error{Code: admin.CodeUsage, Message: err.Error()}
	}
	v, why := g.inHistory(p)
	return admin.ReceiptRow{Node: g.o.Name, Verdict: string(v), Why: why}, nil
}

// Receipt implements admin.Proof: it asks all nodes that hold data.
func (a adminAPI) Receipt(ctx context.Context, req admin.ReceiptRequest, _ func(admin.Event)) (admin.ReceiptResult, error) {
	own, err := a.receiptHere(ctx, req)
	if err != nil {
		return admin.ReceiptResult{}, err
	}
	peers := a.o.dataPeers()
	rows := make([]admin.ReceiptRow, len(peers)+1)
	rows[0] = own
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	var all sync.WaitGroup
	for i, peer := range peers {
		all.Go(func() {
			row := &rows[i+1]
			if err := a.peers.call(ctx, peer, peerReceipt, req, row); err != nil {
				*row = admin.ReceiptRow{Node: peer, Verdict: string(server.VerdictUnknown), Why: err.Error()}
			}
		})
	}
	all.Wait()
	return admin.ReceiptResult{Receipt: req.Receipt, Nodes: rows}, nil
}
