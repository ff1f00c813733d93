# Takes the steps of a commit in one process: the same ones, in the same order and with the same
# answers as the loop of commit.sh, which hosts without perl use.
#
# Arguments: the folder where the list of the steps is, the names of the folders of this run and of its
# backups, then the destination and the staging folder of every mapping. Nothing here uses a single quote, so that the
# text can be a word of the shell. Only what every perl 5 has is used.
use strict;
use warnings;
use Errno;
use Fcntl;
use Time::HiRes qw(lstat);

my ($work, $run, $serial, @places) = @ARGV;
my %is_done;
my $has_begun = 0;
my %made;
my $why = q();

# Seconds since 1970 of a date and a time of day.
sub seconds {
    my ($date, $time) = @_;
    my ($year, $month, $day) = $date =~ /^(\d+)-(\d+)-(\d+)$/ or return;
    my ($hour, $minute, $second) = $time =~ /^(\d+):(\d+):([\d.]+)$/ or return;
    # Days, counted from March so that the leap day comes last.
    ($year, $month) = $month > 2 ? ($year, $month - 3) : ($year - 1, $month + 9);
    my $days = 365 * $year + int($year / 4) - int($year / 100) + int($year / 400)
        + int((153 * $month + 2) / 5) + $day - 719469;
    return (($days * 24 + $hour) * 60 + $minute) * 60 + $second;
}

sub same_time {
    my ($is, $date, $time) = @_;
    my $was = seconds($date, $time);
    return 0 unless defined $was;
    # A number with a fraction is exact to some hundred nanoseconds, the clock of a file system to
    # milliseconds.
    return abs($is - $was) < 0.000002;
}

# Whether the host still has what it had when it was looked at. Of a folder, type, permission bits and
# inode count.
sub is_as_expected {
    my ($dest, $expected, $is_folder) = @_;
    my @is = lstat $dest;
    return !@is if $expected eq q(-);
    return 0 unless @is;
    my @was = split / /, $expected;
    return sprintf(q(%x), $is[2]) eq $was[0] && $is[1] == $was[1] if $is_folder;
    return
           sprintf(q(%x), $is[2]) eq $was[0]
        && $is[7] == $was[1]
        && same_time($is[9],  $was[2], $was[3])
        && same_time($is[10], $was[5], $was[6])
        && $is[1] == $was[8]
        && $is[4] == $was[9]
        && $is[5] == $was[10]
        && $is[0] == $was[11];
}

# Whether the folders between the root of a mapping and an entry are folders, and no links to some.
sub is_reached {
    my ($root, $path) = @_;
    return 1 unless length $path;
    my @names = split m{/}, $path;
    pop @names;
    my $at = $root;
    for my $name (q(), @names) {
        $at .= ($at =~ m{/$} ? q() : q(/)) . $name if length $name;
        return 0 if -l $at || !-d _;
    }
    return 1;
}

# Sets permission bits, but never through a link that appeared meanwhile.
sub set_mode {
    my ($mode, $path) = @_;
    if (sysopen my $file, $path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK) {
        return chmod($mode, $file) || failed();
    }
    # What we may not read we may still own.
    return failed() if $!{ELOOP} || -l $path;
    return chmod($mode, $path) || failed();
}

# Says that a step was taken, and when that changed the entry, so that any later change can be told.
sub done {
    my ($step, $dest) = @_;
    $is_done{$step} = 1;
    my @is = lstat $dest;
    printf "done %s %s\n", $step, @is ? sprintf(q(%.7f), $is[10]) : q();
}

# The moment after which whatever changes is visible: what was staged is older.
sub begin {
    $has_begun = 1;
    select undef, undef, undef, 0.02;
    open my $mark, q(>), "$work/begun" or die "cannot write in $work: $!\n";
    close $mark;
    printf "begun - %.7f\n", (lstat "$work/begun")[10];
}

# Remembers why something did not work.
sub failed {
    $why = "$!";
    return 0;
}

sub make_folders {
    my ($folder) = @_;
    return 1 if $made{$folder} || -d $folder;
    if ($folder =~ m{^(.+)/[^/]+$}) {
        make_folders($1) or return 0;
    }
    mkdir $folder or -d $folder or return failed();
    return $made{$folder} = 1;
}

sub folder_of {
    my ($path) = @_;
    return $path =~ m{^(.*)/[^/]*$} ? (length $1 ? $1 : q(/)) : q(.);
}

sub move_to_backup {
    my ($dest, $old) = @_;
    return make_folders(folder_of($old)) && (rename($dest, $old) || failed());
}

sub keep_in_backup {
    my ($dest, $old) = @_;
    make_folders(folder_of($old)) or return 0;
    if (-l $dest) {
        my $target = readlink $dest;
        return defined $target && symlink($target, $old) || failed();
    }
    return 1 if link $dest, $old;
    # Where links to files of others are forbidden.
    return 1 if system(q(cp), q(-p), q(--), $dest, $old) == 0;
    $why = q(neither a link nor a copy can be made);
    return 0;
}

# Puts what is staged where nothing is: whatever appeared there meanwhile stays.
sub place {
    my ($new, $dest) = @_;
    if (-l $new) {
        my $target = readlink $new;
        defined $target && symlink($target, $dest) or return failed();
        return unlink $new;
    }
    return rename($new, $dest) || failed() if -d $new;
    if (link $new, $dest) {
        return unlink $new;
    }
    failed();
    # File systems without hard links.
    return 0 if $!{EEXIST} || $!{ENOENT} || $!{EACCES} || -e $dest || -l $dest;
    return rename($new, $dest) || failed();
}

open my $steps, q(<), "$work/intent" or die "$!\n";
while (defined(my $head = <$steps>)) {
    my ($path, $expected) = (scalar <$steps>, scalar <$steps>);
    die "the list of steps is cut\n" unless defined $expected;
    chomp($head, $path, $expected);
    my ($what, $step, $mapping, $arg, $arg2) = split / /, $head;
    my ($dest, $base) = @places[2 * $mapping, 2 * $mapping + 1];
    my $new = "$base/$run/up/$mapping";
    my $old = "$base/backup/$serial/$mapping";
    if (length $path) {
        $dest .= ($dest =~ m{/$} ? q() : q(/)) . $path;
        $new .= "/$path";
        $old .= "/$path";
    }
    $why = q();

    if ($what eq q(link)) {
        symlink $expected, $new or die "cannot make a symbolic link in $base: $!\n";
        next;
    }
    if ($what eq q(touch))  { utime $arg, $arg, $new; next }
    if ($what eq q(bits))   { chmod oct $arg, $new;   next }
    begin() unless $has_begun;
    if ($what eq q(relock)) {
        # Only what the step that is named second has put there, or has opened.
        set_mode(oct $arg, $dest) if $is_done{$arg2} && -d $dest;
        next;
    }
    if ($what eq q(parents)) {
        my $mask = umask 022;
        make_folders(folder_of($dest));
        umask $mask;
        next;
    }

    my $is_folder = $what =~ /^(?:clear|rmdir|unlock)$/
        || ($what eq q(chmod) && defined $arg2 && $arg2 eq q(folder));
    if (!is_reached($places[2 * $mapping], $path) || !is_as_expected($dest, $expected, $is_folder)) {
        print "moved $step\n";
        next;
    }
    my $problem;
    if ($what eq q(new)) {
        if ($arg ne q(=)) {
            # The group that a folder gives to what is made in it.
            system q(chgrp), q(-R), $arg, $new;
            chmod oct $arg2, $new unless -l $new;
        }
        place($new, $dest) or $problem = q(cannot put it in place);
    }
    elsif ($what eq q(replace)) {
        if ($arg ne q(=) && !-l $new) {
            # The owner and group of what is replaced, as far as the login user may set them.
            my ($uid, $gid) = split /:/, $arg;
            chown $uid, $gid, $new or chown -1, $gid, $new;
            chmod oct $arg2, $new;
        }
        if (!keep_in_backup($dest, $old)) { $problem = q(cannot keep a backup of it) }
        elsif (!rename $new, $dest) { failed(); $problem = q(cannot put it in place) }
    }
    elsif ($what eq q(retype)) {
        if (!move_to_backup($dest, $old)) { $problem = q(cannot keep a backup of it) }
        elsif (!place($new, $dest)) {
            my $cause = $why;
            rename $old, $dest unless -e $dest || -l $dest;
            ($problem, $why) = (q(cannot put it in place), $cause);
        }
    }
    elsif ($what eq q(clear)) {
        # A folder that makes room: only while it is empty.
        if (!rmdir $dest) { failed(); $problem = q(the folder is not empty) }
        elsif (!place($new, $dest)) { $problem = q(cannot put it in place) }
    }
    elsif ($what eq q(delete)) {
        move_to_backup($dest, $old) or $problem = q(cannot move it to the backups);
    }
    elsif ($what eq q(rmdir)) {
        if (!rmdir $dest) {
            if (defined $arg && $arg eq q(spare) && ($!{ENOTEMPTY} || $!{EEXIST})) {
                # Somebody else keeps something in it.
                print "spared $step\n";
                next;
            }
            failed();
            $problem = q(cannot remove the folder);
        }
    }
    elsif ($what eq q(chmod)) {
        set_mode(oct $arg, $dest) or $problem = q(cannot set the permission bits);
    }
    elsif ($what eq q(unlock)) {
        # A folder of ours that may not be written, while its entries change.
        my @is = lstat $dest;
        set_mode(($is[2] & 07777) | 0700, $dest) or $problem = q(cannot open the folder);
    }
    if (defined $problem) {
        print "refused $step $problem", (length $why ? ": $why" : q()), "\n";
    }
    else {
        done($step, $dest);
    }
}
