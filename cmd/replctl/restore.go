package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"repld/internal/admin"
	"repld/internal/node"
	"repld/wal"
)

func (a *app) restoreCmd() *cobra.Command {
	f := &archiveFlags{}
	var o node.RestoreOptions
	var lsn, epoch uint64
	var at string
	latest := false
	cmd := &cobra.Command{
		Use:   "restore DIR",
		Short: "Make a data directory from an archive, as it was at a moment",
		Long: `Restore the newest backup before a moment into DIR, which must be empty, and replay the archived log from there to the moment. The result is the one node of a
new cluster: it needs another cluster name (--as), so that it cannot join the old cluster, nor the old nodes it, by mistake. Start it with a configuration of that name; its
epochs are above those of the old cluster. Add blank nodes to it as to any cluster.

It may be interrupted and run again. A node does not start in a directory that is not whole.

` + archiveHelp,
		Example: `  replctl restore /var/lib/repld --from file:///backup/repld --of shop --as shop-2 --node a --latest
  replctl restore /tmp/look --config repld.yml --as shop-look --to-time 2026-11-24T14:01:00Z
  replctl restore /tmp/look --config repld.yml --as shop-look --to-lsn 120033`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.fill(f)
			if err != nil {
				return err
			}
			o.ToLSN, o.Epoch, o.Dir, o.Of, o.Group = wal.LSN(lsn), wal.Epoch(epoch), args[0], f.cluster, f.group
			if o.ToTime, err = parseTime(at, a.now()); err != nil {
				return usageError("--to-time: %v", err)
			}
			given := 0
			for _, set := range []bool{lsn != 0, at != "", latest} {
				if set {
					given++
				}
			}
			if given != 1 {
				return usageError("to which moment? give one of --to-lsn, --to-time and --latest")
			}
			if o.Node == "" && c != nil {
				o.Node = c.Node
			}
			if o.Cluster == "" || o.Cluster == o.Of || o.Node == "" {
				return usageError("give --as NAME, another cluster name than %q, and --node NAME", o.Of)
			}
			ctx, cancel := a.bounded(cmd.Context())
			defer cancel()
			if o.Archive, err = a.openArchive(ctx, f); err != nil {
				return err
			}
			o.Progress = func(message string, percent float64) { a.progress(admin.Event{Message: message, Percent: percent}) }
			o.Logger = slog.New(slog.DiscardHandler)
			out, err := node.Restore(ctx, o)
			if errors.Is(err, node.ErrNotEmpty) {
				return &codeError{code: exitRefused, err: err}
			}
			if err != nil {
				return damage(err)
			}
			return a.emit(out, func(w io.Writer) { restoreText(w, out) })
		},
	}
	f.add(cmd)
	p := cmd.Flags()
	p.StringVar(&o.Cluster, "as", "", "`name` of the new cluster")
	p.StringVar(&o.Node, "node", "", "`name` of the new node (default: that of --config)")
	p.Uint64Var(&lsn, "to-lsn", 0, "the last record that is restored")
	p.StringVar(&at, "to-time", "", "what was written by this `time`: RFC 3339, or a duration before now like 10m")
	p.BoolVar(&latest, "latest", false, "everything that is archived")
	p.Uint64Var(&epoch, "epoch", 0, "of several histories, that of this `epoch` (default: the newest)")
	p.BoolVar(&o.Force, "force", false, "move what is in DIR aside, into DIR.before-TIME")
	return cmd
}

func restoreText(w io.Writer, r node.RestoreResult) {
	fmt.Fprintf(w, "restored %s to LSN %d of epoch %d", r.Dir, r.Position.LSN, r.Position.Epoch)
	if !r.Time.IsZero() {
		fmt.Fprintf(w, ", written at %s", r.Time.UTC().Format(time.RFC3339Nano))
	}
	fmt.Fprintf(w, "\n  backup %s at LSN %d, %s replayed at %.0f a second, %.1f s in all\n", r.Backup, r.From.LSN, plural(r.Replayed, "record"), r.Rate, r.Seconds)
	fmt.Fprintf(w, "  %d keys, digest %s\n", r.Keys, r.Digest.Hash)
	if r.Aside != "" {
		fmt.Fprintf(w, "  what was there is in %s\n", r.Aside)
	}
	fmt.Fprintf(w, "  it is node %s of the new cluster %s: start it with a configuration of these names\n", r.Node, r.Cluster)
}
