package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"repld/internal/admin"
)

func (a *app) verifyCmd() *cobra.Command {
	var req admin.VerifyRequest
	var wait time.Duration
	var rate string
	var noReplay bool
	var f archiveFlags
	cmd := &cobra.Command{
		Use:   "verify [DIR|URL]",
		Short: "Prove that the copies agree, or that a data directory, checkpoint or archive is whole",
		Long: `Without DIR: a mark is written to the log; every node digests its state at exactly that point, without stopping, and chain heads and
digests are compared. A lagged standby answers when it has reached the mark.

On a difference the key ranges are named, and with --keys the rows in them and how they differ. --repair-from NODE gives standbys whose state differs a whole new one: NODE
has to be equal to the active, whose snapshot they take. The active itself is never repaired: switch over to a node that is right first.

With DIR, the data directory of a node (or a copy of it): every segment, checksum, chain, epoch order and LSN of the log; every file and
row of the state; snapshots that wait for installation; identity and epoch slots. If the log reaches back to the first record the
state is rebuilt from it in a temporary folder and compared. Nothing is changed; the log of a running node can be
verified too, its state only when it is stopped.

DIR may also be a checkpoint or snapshot (with its manifest: every file by its hash), a bare state, or the folder of an archive; URL is an archive's (file:///path,
s3://bucket/prefix?endpoint=host:port): every object of every backup and all archived log is read back. Without --of all clusters that are found there are checked.

The exit code is 0, 6 (difference or damage) or 1 (could not be verified).`,
		Example: "  replctl verify\n  replctl verify --wait 2h        # for a standby that lags by an hour\n  replctl verify --keys 100       # and which keys differ\n  replctl verify --repair-from a  # and give those that differ the state of the active\n  replctl verify /var/lib/repld -o json\n  replctl verify file:///backup/repld",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				if done, err := a.verifyCopy(cmd.Context(), args[0], f); done {
					return err
				}
				return a.verifyDir(cmd.Context(), args[0], !noReplay)
			}
			bytes, err := parseRate(rate)
			if err != nil {
				return err
			}
			return a.ask(cmd.Context(), func(ctx context.Context, c *admin.Client) error {
				req.WaitSeconds, req.BytesPerSec = wait.Seconds(), bytes
				out, err := c.Verify(ctx, req, a.progress)
				if err != nil {
					return err
				}
				if err := a.emit(out, func(w io.Writer) { verifyTable(w, out) }); err != nil {
					return err
				}
				return silent(verifyCode(out))
			})
		},
	}
	cmd.Flags().DurationVar(&wait, "wait", 0, "how long nodes may take to reach the mark (default: the largest apply_delay and 30 s)")
	cmd.Flags().StringVar(&rate, "rate", "", "bytes a second that each node reads at most, like 50MiB (default: as fast as clients let it)")
	cmd.Flags().IntVar(&req.Keys, "keys", 0, "name so many `rows` that differ, at most 10000 (a key has a row, and one more when it expires)")
	cmd.Flags().StringVar(&req.RepairFrom, "repair-from", "", "give standbys that differ from this `node` the active's state, which has to be equal to its own")
	cmd.Flags().StringVar(&f.cluster, "of", "", "with an archive: only that of this `cluster`")
	cmd.Flags().StringVar(&f.group, "group", "default", "with --of: the `group`")
	cmd.Flags().StringVar(&f.keyFile, "key-file", "", "with an encrypted archive: its key `file`")
	cmd.Flags().BoolVar(&noReplay, "no-replay", false, "with DIR: do not rebuild the state from the log")
	return cmd
}

// verifyCode: a difference weighs more than a node that gave no digest.
func verifyCode(out admin.VerifyResult) int {
	if out.OK {
		return exitOK
	}
	for _, n := range out.Nodes {
		if n.Error == "" && differs(out, n) != verdictOK {
			return exitDifference
		}
	}
	return exitError
}

func verifyTable(w io.Writer, out admin.VerifyResult) {
	rows := make([][]string, 0, len(out.Nodes))
	for _, n := range out.Nodes {
		if n.Error != "" {
			rows = append(rows, []string{n.Node, "?", "?", "?", "?", n.Error})
			continue
		}
		rows = append(rows, []string{n.Node, n.Position.String(), n.Digest.String(), fmt.Sprint(n.Rows), bytesText(int64(n.Bytes)), differs(out, n)})
	}
	table(w, []string{"NODE", "POSITION", "DIGEST", ">ROWS", ">BYTES", "VERDICT"}, rows)
	for _, note := range out.Notes {
		fmt.Fprintf(w, "note: %s\n", note)
	}
	differencesText(w, out)
	if out.OK {
		fmt.Fprintf(w, "\nverify: ok, all copies are equal at LSN %d of epoch %d\n", out.Mark.LSN, out.Mark.Epoch)
		return
	}
	fmt.Fprintln(w, "\nverify: FAILED, see above")
}

// differencesText names what differs, and who was repaired.
func differencesText(w io.Writer, out admin.VerifyResult) {
	for _, d := range out.Differences {
		fmt.Fprintf(w, "%s differs from %s: from %s up to %s, %s there, %d on %s\n", d.Node, out.Reference, d.From, d.To, plural(uint64(d.Rows), "row"), d.RefRows, out.Reference)
		for _, k := range d.Keys {
			fmt.Fprintf(w, "  %-8s %s\n", k.Kind, k.Row)
		}
	}
	for _, n := range out.Repaired {
		fmt.Fprintf(w, "repaired: %s has the active's state\n", n)
	}
}

// differs compares a node with the reference.
func differs(out admin.VerifyResult, n admin.NodeDigest) string {
	for _, first := range out.Nodes {
		switch {
		case first.Error != "" || (out.Reference != "" && first.Node != out.Reference):
			continue
		case first.Node == n.Node:
			return "ok"
		case first.Position != n.Position:
			return "history differs from " + first.Node
		case first.Digest != n.Digest:
			return "state differs from " + first.Node
		}
		return "ok"
	}
	return "ok"
}
