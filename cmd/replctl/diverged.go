package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strconv"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/spf13/cobra"

	"repld/internal/admin"
	"repld/internal/kv"
	"repld/wal"
)

func (a *app) divergedCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "diverged",
		Short: "List and export log that the history does not contain",
		Long: `When a node rejoins after a take-over, records that only it had are not part of the new history. They were
never acknowledged, unless a person consented to data loss; they are set aside before the log is cut, for a look.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.divergedListCmd(), a.divergedExportCmd())
	return cmd
}

func (a *app) divergedListCmd() *cobra.Command {
	return &cobra.Command{
		Use: "list [DIR]", Short: "List what was set aside, by a running node or in a data directory",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			all, err := a.findDiverged(cmd.Context(), args)
			if err != nil {
				return err
			}
			return a.emit(all, func(w io.Writer) { divergedTable(w, all) })
		},
	}
}

func (a *app) divergedExportCmd() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "export NAME [DIR]", Short: "Print the effects of one piece",
		Long: `Print what the records of NAME did, to look at it or to write it again. The files of the node are read, so run it on its host.

  --format ndjson   one JSON object a record, as log dump -o json
  --format resp     Redis commands, one an effect, for: redis-cli -s SOCKET --pipe`,
		Example: "  replctl diverged export NAME > lost.ndjson\n  replctl diverged export NAME --format resp | redis-cli -s client.sock --pipe",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			write := a.ndjson
			switch format {
			case "ndjson":
			case "resp":
				write = a.respPipe
			default:
				return usageError("--format %s: want ndjson or resp", format)
			}
			all, err := a.findDiverged(cmd.Context(), args[1:])
			if err != nil {
				return err
			}
			for _, d := range all {
				if d.Name == args[0] {
					return write(d.Path)
				}
			}
			return usageError("nothing called %s was set aside, see: replctl diverged list", args[0])
		},
	}
	cmd.Flags().StringVar(&format, "format", "ndjson", "ndjson or resp")
	return cmd
}

// findDiverged asks the node, or reads the directory that is given.
func (a *app) findDiverged(ctx context.Context, args []string) ([]admin.Diverged, error) {
	if len(args) == 0 {
		var out []admin.Diverged
		err := a.ask(ctx, func(ctx context.Context, c *admin.Client) error {
			var err error
			out, err = c.Diverged(ctx)
			return err
		})
		return out, err
	}
	groups, err := groupDirs(args[0])
	if err != nil {
		return nil, err
	}
	out := []admin.Diverged{}
	for _, g := range groups {
		all, err := wal.ListDiverged(vfs.Default, filepath.Join(g, "diverged"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, d := range all {
			out = append(out, admin.Diverged{Name: filepath.Base(d.Path), Path: d.Path, From: d.From, To: d.To, Records: d.Records, Bytes: d.Bytes, Reason: d.Reason, Time: d.Time})
		}
	}
	return out, nil
}

func divergedTable(w io.Writer, all []admin.Diverged) {
	if len(all) == 0 {
		fmt.Fprintln(w, "nothing was set aside")
		return
	}
	rows := make([][]string, 0, len(all))
	for _, d := range all {
		rows = append(rows, []string{d.Name, dash(d.Node), fmt.Sprint(d.To.Epoch), fmt.Sprint(d.From.LSN + 1), fmt.Sprint(d.To.LSN), fmt.Sprint(d.Records), bytesText(d.Bytes),
			d.Time.UTC().Format(time.RFC3339), d.Reason})
	}
	table(w, []string{"NAME", "NODE", ">EPOCH", ">FROM", ">TO", ">RECORDS", ">BYTES", "SET ASIDE", "REASON"}, rows)
}

// eachDiverged reads the frames of the piece at path.
func eachDiverged(path string, fn func(*wal.Frame) error) error {
	r, err := wal.OpenDiverged(vfs.Default, path)
	if err != nil {
		return err
	}
	defer r.Close()
	for {
		f, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := fn(f); err != nil {
			return err
		}
	}
}

func (a *app) ndjson(path string) error {
	a.format = formatJSON
	return eachDiverged(path, func(f *wal.Frame) error {
		return f.Each(func(r wal.Record) error {
			rec, err := describe(f.Header, r, "")
			if err != nil {
				return err
			}
			return a.emitLine(rec)
		})
	})
}

// respPipe writes each effect as a Redis command with absolute expiry.
func (a *app) respPipe(path string) error {
	out := bufio.NewWriter(a.out)
	err := eachDiverged(path, func(f *wal.Frame) error {
		return f.Each(func(r wal.Record) error {
			if r.Kind != wal.KindEffects {
				return nil
			}
			return kv.WalkEffects(r.Payload, func(e kv.Effect) error {
				if e.Row != kv.RowKey {
					return nil
				}
				return respCommand(out, commandOf(e)...)
			})
		})
	})
	return errors.Join(err, out.Flush())
}

func commandOf(e kv.Effect) []string {
	switch e.Op {
	case kv.OpClear:
		return []string{"FLUSHALL"}
	case kv.OpDelete:
		return []string{"DEL", string(e.Key)}
	}
	cmd := []string{"SET", string(e.Key), string(e.Value)}
	if e.ExpireAt != 0 {
		cmd = append(cmd, "PXAT", strconv.FormatInt(e.ExpireAt, 10))
	}
	return cmd
}

func respCommand(w io.Writer, args ...string) error {
	if _, err := fmt.Fprintf(w, "*%d\r\n", len(args)); err != nil {
		return err
	}
	for _, s := range args {
		if _, err := fmt.Fprintf(w, "$%d\r\n%s\r\n", len(s), s); err != nil {
			return err
		}
	}
	return nil
}
