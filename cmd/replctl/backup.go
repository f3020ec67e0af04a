package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"repld/internal/admin"
	"repld/internal/archive"
	"repld/internal/config"
)

const archiveHelp = `The archive is that of --config, or of --from with --of (and --key-file). Credentials of S3 come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.`

// archiveFlags say which archive.
type archiveFlags struct{ url, cluster, group, keyFile string }

func (f *archiveFlags) add(cmd *cobra.Command) {
	p := cmd.Flags()
	p.StringVar(&f.url, "from", "", "archive `URL`: file:///path or s3://bucket/prefix?endpoint=host:port (default: archive.url of --config)")
	p.StringVar(&f.cluster, "of", "", "`cluster` that the archive is of (default: that of --config)")
	p.StringVar(&f.group, "group", "default", "`group` that the archive is of")
	p.StringVar(&f.keyFile, "key-file", "", "key `file` of an encrypted archive (default: archive.key_file of --config)")
}

// fill takes from --config what the flags leave open.
func (a *app) fill(f *archiveFlags) (*config.Config, error) {
	var c *config.Config
	if a.config != "" {
		var err error
		if c, err = config.Load(config.LoadOptions{File: a.config}); err != nil {
			return nil, err
		}
		if f.url == "" {
			f.url = c.Archive.URL
			if f.keyFile == "" {
				f.keyFile = c.Archive.KeyFile
			}
		}
		if f.cluster == "" {
			f.cluster = c.Cluster
		}
	}
	if f.url == "" || f.cluster == "" {
		return c, usageError("which archive? give --config FILE with archive.url, or --from URL and --of CLUSTER")
	}
	return c, nil
}

func (a *app) openArchive(ctx context.Context, f *archiveFlags) (*archive.Archive, error) {
	if _, err := a.fill(f); err != nil {
		return nil, err
	}
	return archive.Open(ctx, archive.Options{URL: f.url, KeyFile: f.keyFile, Cluster: f.cluster, Group: f.group})
}

func (a *app) backupCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "backup", Short: "Make, list, check and expire backups",
		Long: "Backups are copies of the state in an archive outside the cluster, beside the log, which the nodes archive all the time: together they restore any moment.\n\n" + archiveHelp,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.backupCreateCmd(), a.backupListCmd(), a.backupCheckCmd(), a.backupExpireCmd(), a.backupKeygenCmd())
	return cmd
}

func (a *app) backupCreateCmd() *cobra.Command {
	var req admin.BackupRequest
	cmd := &cobra.Command{
		Use: "create [NODE]", Short: "Copy a node's state into its archive while writes go on",
		Long: `Have NODE (default: the node that is asked) copy a checkpoint of its state into its archive. A standby spares the active the work. Files that the archive
has already are not sent again. When it was broken off, do it again: what was sent counts.`,
		Example: "  replctl backup create b --note 'before the release'",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				req.Node = args[0]
			}
			return a.ask(cmd.Context(), func(ctx context.Context, c *admin.Client) error {
				out, err := c.Backup(ctx, req, a.progress)
				if err != nil {
					return err
				}
				return a.emit(out, func(w io.Writer) {
					fmt.Fprintf(w, "backup %s of %s at LSN %d (epoch %d): %d files, %s, of which %s were sent, in %.1f s\n  %d keys, digest %s\n", out.ID, out.Node, out.Position.LSN, out.Position.Epoch,
						out.Files, bytesText(out.Bytes), bytesText(out.Sent), out.Seconds, out.Keys, out.Digest)
				})
			})
		},
	}
	cmd.Flags().StringVar(&req.Note, "note", "", "a word to find it by")
	return cmd
}

func (a *app) backupListCmd() *cobra.Command {
	f := &archiveFlags{}
	cmd := &cobra.Command{
		Use: "list", Short: "List the backups", Long: "List the backups in the order of their positions.\n\n" + archiveHelp, Args: cobra.NoArgs,
		Example: "  replctl --config repld.yml backup list\n  replctl backup list --from file:///backup/repld --of shop",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ar, err := a.openArchive(cmd.Context(), f)
			if err != nil {
				return err
			}
			all, bad := ar.Backups(cmd.Context())
			err = a.emit(all, func(w io.Writer) {
				rows := [][]string{}
				for _, b := range all {
					rows = append(rows, []string{b.ID, b.Created.Format(time.RFC3339), b.Node, fmt.Sprint(b.Position.Epoch), fmt.Sprint(b.Position.LSN), fmt.Sprint(b.Keys), bytesText(b.Bytes()), bytesText(b.Sent),
						b.Digest.String(), b.Note})
				}
				table(w, []string{"ID", "CREATED", "NODE", ">EPOCH", ">LSN", ">KEYS", ">BYTES", ">SENT", "DIGEST", "NOTE"}, rows)
			})
			return errors.Join(err, damage(bad))
		},
	}
	f.add(cmd)
	return cmd
}

func (a *app) backupCheckCmd() *cobra.Command {
	f := &archiveFlags{}
	quick := false
	cmd := &cobra.Command{
		Use: "check", Short: "Read everything back and say which moments can be restored",
		Long:    "Read every object of every backup and all archived log, check each by its hash and the log by its chain, and say from which moment to which a restore is possible.\n\n" + archiveHelp,
		Example: "  replctl --config repld.yml backup check\n  replctl backup check --quick --from file:///backup/repld --of shop",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ar, err := a.openArchive(cmd.Context(), f)
			if err != nil {
				return err
			}
			last := a.now()
			rep, err := ar.Check(cmd.Context(), !quick, func(p archive.Progress) {
				if now := a.now(); now.Sub(last) > time.Second {
					last = now
					a.progress(admin.Event{Message: fmt.Sprintf("%d of %d objects", p.Files, p.FilesTotal), Percent: 100 * float64(p.Bytes) / float64(max(p.Total, 1))})
				}
			})
			if err != nil && !errors.Is(err, archive.ErrDamaged) {
				return err
			}
			if e := a.emit(rep, func(w io.Writer) {
				fmt.Fprintf(w, "%d backups of %d objects, %s; %d pieces of log\n", rep.Backups, rep.Objects, bytesText(rep.Bytes), rep.Chunks)
				if rep.Backups > 0 {
					fmt.Fprintf(w, "every moment from LSN %d to LSN %d can be restored\n", rep.From.LSN, rep.To.LSN)
				}
				for _, p := range rep.Problems {
					fmt.Fprintf(w, "PROBLEM %s\n", p)
				}
			}); e != nil {
				return e
			}
			if len(rep.Problems) > 0 {
				return silent(exitDifference)
			}
			return nil
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&quick, "quick", false, "only look whether everything is there, with the right size")
	return cmd
}

func (a *app) backupExpireCmd() *cobra.Command {
	f := &archiveFlags{}
	var p archive.Policy
	cmd := &cobra.Command{
		Use: "expire", Short: "Remove old backups, and what only they need",
		Long:    "Remove backups beyond --keep that are older than --older-than, objects that no backup names, and log from before the oldest backup that is left.\n\n" + archiveHelp,
		Example: "  replctl --config repld.yml backup expire --keep 7 --plan\n  replctl --config repld.yml backup expire --keep 7 --older-than 720h",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if p.Keep < 1 {
				return usageError("--keep %d: at least 1", p.Keep)
			}
			ar, err := a.openArchive(cmd.Context(), f)
			if err != nil {
				return err
			}
			out, err := ar.Expire(cmd.Context(), p)
			if err != nil {
				return damage(err)
			}
			return a.emit(out, func(w io.Writer) {
				verb := "removed"
				if p.Plan {
					verb = "would be removed"
				}
				fmt.Fprintf(w, "%d backups kept; %s: %d backups, %d objects, %d pieces of log, %s\n", out.Kept, verb, len(out.Backups), out.Objects, out.Chunks, bytesText(out.Bytes))
			})
		},
	}
	f.add(cmd)
	cmd.Flags().IntVar(&p.Keep, "keep", 7, "the newest so `many` stay")
	cmd.Flags().DurationVar(&p.Age, "older-than", 0, "of the others only those that are older")
	cmd.Flags().DurationVar(&p.Grace, "grace", 24*time.Hour, "objects without a backup stay for so long: one may be in the making")
	cmd.Flags().BoolVar(&p.Plan, "plan", false, "say what would be removed, change nothing")
	return cmd
}

func (a *app) backupKeygenCmd() *cobra.Command {
	return &cobra.Command{
		Use: "keygen FILE", Short: "Make a key for archive.key_file",
		Long:    "Write a new key (an age identity) to FILE, which must not exist. Keep a copy outside of this machine: without it an encrypted archive cannot be read.",
		Example: "  replctl backup keygen /etc/repld.key",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			public, err := archive.NewKey(args[0])
			if err != nil {
				return err
			}
			return a.emit(map[string]string{"file": args[0], "public": public}, func(w io.Writer) {
				fmt.Fprintf(w, "%s holds a new key, %s: keep a copy elsewhere\n", args[0], public)
			})
		},
	}
}

// damage gives an error the exit code of damage if it is that.
func damage(err error) error {
	if errors.Is(err, archive.ErrDamaged) {
		return &codeError{code: exitDifference, err: err}
	}
	return err
}
