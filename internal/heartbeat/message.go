package heartbeat

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"repld/failover"
	"repld/wal"
)

// maxMessage bounds one message in bytes.
const maxMessage = 64 << 10

// Request is a heartbeat, or with Poll a candidate's question.
type Request struct {
	Seq  uint64         `json:"seq"`
	Beat failover.Beat  `json:"beat"`
	Poll *failover.Poll `json:"poll,omitempty"`
}

// Response answers a Request.
type Response struct {
	Seq  uint64         `json:"seq"`
	Beat failover.Beat  `json:"beat"`           // of the one who answers
	Ack  Ack            `json:"ack"`            // to an active's heartbeat
	Vote *failover.Vote `json:"vote,omitempty"` // to a poll
}

// Ack is a voter's word to an active (R14).
type Ack struct {
	// Supports: the voter obeys the sender's epoch, and supports no other active for the length of the lease from now on.
	Supports bool `json:"supports,omitempty"`
	// Epoch and Holder are the newest that the voter knows.
	Epoch  wal.Epoch `json:"epoch,omitempty"`
	Holder string    `json:"holder,omitempty"`
	// Left is how much longer an active of an older epoch may answer reads by this voter's word, and that active's name.
	Left time.Duration `json:"left_ns,omitempty"`
	Of   string        `json:"of,omitempty"`
}

func write(w io.Writer, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(body) > maxMessage {
		return fmt.Errorf("heartbeat of %d bytes is above the limit of %d", len(body), maxMessage)
	}
	_, err = w.Write(append(binary.LittleEndian.AppendUint32(nil, uint32(len(body))), body...))
	return err
}

func read(r io.Reader, into any) error {
	var h [4]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return err
	}
	n := binary.LittleEndian.Uint32(h[:])
	if n > maxMessage {
		return fmt.Errorf("heartbeat of %d bytes is above the limit of %d", n, maxMessage)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return err
	}
	return json.Unmarshal(b, into)
}
