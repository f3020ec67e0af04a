package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/spf13/cobra"

	"repld/internal/kv"
	"repld/wal"
)

func (a *app) logCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "log",
		Short: "Read the log: every record's epoch, LSN, time and effects",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.dumpCmd(), a.grepCmd())
	return cmd
}

const logHelp = `The log is read from the files of DIR (a data or group directory), or of the node that --config names; nothing is changed,
and the node may be running. One line an effect:

  EPOCH  LSN  TIME  KIND  EFFECT

Values longer than --width are cut in the table; -o json prints them whole, one object a record.`

func (a *app) dumpCmd() *cobra.Command {
	q := &query{}
	cmd := &cobra.Command{
		Use: "dump [DIR]", Short: "Print records", Long: "Print records of the log.\n\n" + logHelp,
		Example: "  replctl log dump /var/lib/repld --from 1200 --to 1300\n  replctl --config repld.yml log dump --since 10m",
		Args:    cobra.MaximumNArgs(1),
		RunE:    func(_ *cobra.Command, args []string) error { return a.readLog(args, q) },
	}
	q.flags(cmd)
	cmd.Flags().StringVar(&q.key, "key", "", "only effects on keys like this `pattern` (* and ?)")
	return cmd
}

func (a *app) grepCmd() *cobra.Command {
	q := &query{}
	cmd := &cobra.Command{
		Use: "grep PATTERN [DIR]", Short: "Print the records that touched keys like PATTERN",
		Long:    "Print the effects on keys like PATTERN: * is any text, ? any byte, \\ takes the next byte as it is.\n\n" + logHelp,
		Example: "  replctl log grep 'cart:*' /var/lib/repld --since 1h\n  replctl --config repld.yml log grep user:17",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(_ *cobra.Command, args []string) error {
			q.key = args[0]
			return a.readLog(args[1:], q)
		},
	}
	q.flags(cmd)
	return cmd
}

// query selects records.
type query struct {
	key          string
	from, to     uint64
	epoch        uint64
	since, until string
	width        int

	after, before time.Time
}

func (q *query) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.Uint64Var(&q.from, "from", 0, "first `LSN`")
	f.Uint64Var(&q.to, "to", 0, "last `LSN` (default: the end)")
	f.Uint64Var(&q.epoch, "epoch", 0, "only this epoch")
	f.StringVar(&q.since, "since", "", "written at or after this `time`: RFC 3339, or a duration before now like 10m")
	f.StringVar(&q.until, "until", "", "written before this `time`, like --since")
	f.IntVar(&q.width, "width", 60, "longest value in the table")
}

func (q *query) times(now time.Time) error {
	var err error
	if q.after, err = parseTime(q.since, now); err != nil {
		return usageError("--since: %v", err)
	}
	if q.before, err = parseTime(q.until, now); err != nil {
		return usageError("--until: %v", err)
	}
	return nil
}

func parseTime(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is neither a duration like 10m nor a time like 2026-01-02T15:04:05Z", text)
	}
	return t, nil
}

// frame says whether any record of h can match.
func (q *query) frame(h wal.Header) bool {
	return uint64(h.Last()) >= q.from && (q.to == 0 || uint64(h.First) <= q.to) && (q.epoch == 0 || uint64(h.Epoch) == q.epoch) &&
		(q.after.IsZero() || !h.Time.Before(q.after)) && (q.before.IsZero() || h.Time.Before(q.before))
}

func (q *query) record(lsn wal.LSN) bool {
	return uint64(lsn) >= q.from && (q.to == 0 || uint64(lsn) <= q.to)
}

// readLog prints the matching records of all groups in the directory.
func (a *app) readLog(args []string, q *query) error {
	if err := q.times(a.now()); err != nil {
		return err
	}
	dir, err := a.dataDir(args)
	if err != nil {
		return err
	}
	groups, err := groupDirs(dir)
	if err != nil {
		return err
	}
	if a.format == formatTable {
		fmt.Fprintln(a.out, "EPOCH  LSN  TIME  KIND  EFFECT")
	}
	for _, g := range groups {
		rep, err := wal.Verify(vfs.Default, filepath.Join(g, "wal"), wal.VerifyOptions{OnFrame: func(f *wal.Frame) error { return a.printFrame(f, q) }})
		if len(rep.Problems) > 0 {
			return &codeError{code: exitDifference, err: fmt.Errorf("the log is damaged: %w", errors.Join(rep.Problems...))}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *app) printFrame(f *wal.Frame, q *query) error {
	if !q.frame(f.Header) {
		return nil
	}
	return f.Each(func(r wal.Record) error {
		if !q.record(r.LSN) {
			return nil
		}
		rec, err := describe(f.Header, r, q.key)
		if err != nil || (q.key != "" && len(rec.Effects) == 0) {
			return err
		}
		if a.format != formatTable {
			return a.emitLine(rec)
		}
		return printRecord(a.out, rec, q.width)
	})
}

func printRecord(w io.Writer, rec logRecord, width int) error {
	head := fmt.Sprintf("%d  %d  %s  %s  ", rec.Epoch, rec.LSN, rec.Time.UTC().Format("2006-01-02T15:04:05.000Z"), rec.Kind)
	lines := []string{rec.Note}
	if len(rec.Effects) > 0 {
		lines = lines[:0]
		for _, e := range rec.Effects {
			lines = append(lines, e.text(width))
		}
	}
	for _, line := range lines {
		if _, err := fmt.Fprintln(w, strings.TrimRight(head+line, " ")); err != nil {
			return err
		}
	}
	return nil
}

// logRecord is one record as -o json prints it. Keys and values that are not text are in base64, in key_base64 and value_base64.
type logRecord struct {
	Epoch   wal.Epoch `json:"epoch"`
	LSN     wal.LSN   `json:"lsn"`
	Time    time.Time `json:"time"`
	Kind    string    `json:"kind"`
	Note    string    `json:"note,omitempty"`
	Effects []effect  `json:"effects,omitempty"`
}

// describe decodes a record; with key only its effects on keys like it.
func describe(h wal.Header, r wal.Record, key string) (logRecord, error) {
	rec := logRecord{Epoch: h.Epoch, LSN: r.LSN, Time: h.Time, Kind: r.Kind.String()}
	if r.Kind != wal.KindEffects {
		rec.Note = string(r.Payload)
		return rec, nil
	}
	err := kv.WalkEffects(r.Payload, func(e kv.Effect) error {
		if e.Row == kv.RowKey && (key == "" || e.Op == kv.OpClear || glob(key, string(e.Key))) {
			rec.Effects = append(rec.Effects, effectOf(e))
		}
		return nil
	})
	if err != nil {
		return rec, fmt.Errorf("record %d: %w", r.LSN, err)
	}
	return rec, nil
}
