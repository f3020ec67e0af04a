package admin

import (
	"time"

	"repld/wal"
)

// LogFrame is one frame of the log as PathLog shows it.
type LogFrame struct {
	Epoch     wal.Epoch   `json:"epoch"`
	First     wal.LSN     `json:"first"`
	Last      wal.LSN     `json:"last"`
	Committed wal.LSN     `json:"committed"` // known when the frame was written
	Time      time.Time   `json:"time"`
	Prev      wal.Hash    `json:"prev"`
	Hash      wal.Hash    `json:"hash"`
	Bytes     int         `json:"bytes"` // stored, with the header
	Records   []LogRecord `json:"records,omitempty"`
}

// LogRecord is one record of a LogFrame.
type LogRecord struct {
	LSN     wal.LSN  `json:"lsn"`
	Kind    string   `json:"kind"`
	Effects []string `json:"effects,omitempty"` // one line of text an effect
}
