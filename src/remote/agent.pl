# The agent does on a host with perl what one session is told, task after task. This file has what all tasks
# need, and the loop that takes them. look.pl comes with it; the other tasks follow when they are needed.
# The scripts of the same names do the same for hosts without perl, and answer the same.
#
# It uses only perl 5.10 and what every installation of that has. A task is a line with its name and how
# many bytes to skip behind it, a line for each variable, and an empty line. Answers are sections on
# standard output. A section begins with a line of the marker, the nonce of the task and its name, so that
# nothing a login shell prints can be mistaken for it. Standard error carries a heartbeat, so that the
# controller can tell slow from dead.
use strict;
use warnings;

# The variables of the task.
our %in;
# Bytes of standard input that were read and not used, and of standard output that were not written.
our ($input, $output) = (q(), q());
# The tool that computes digests: its algorithm and its command.
our ($algorithm, @hash_command);
# What this session has received: by staging folder, the paths of the files, and by folder how many entries
# it has.
our %received;
# By id of a large file: the size that it is to have; the process that hashes it while it arrives as a whole,
# and the file that this process writes its answer to.
our (%large_size, %streamed);
# With this, a program of the login makes files and folders.
our $login_umask = umask;
# What has to be undone however this process ends, short of being killed; the last one first.
our @at_end;

# --- input and output ----------------------------------------------------------------------------

# Reads more input; false at its end.
sub more {
    while (1) {
        my $count = sysread STDIN, $input, 262144, length $input;
        return $count if defined $count;
        quit() unless $!{EINTR};
    }
}

# Exactly so many bytes of input.
sub take {
    my ($count) = @_;
    while (length $input < $count) { more() or quit() }
    return substr $input, 0, $count, q();
}

# The next line of input, without its end.
sub take_line {
    my ($end, $from) = (-1, 0);
    while (($end = index $input, "\n", $from) < 0) {
        $from = length $input;
        more() or quit();
    }
    my $line = substr $input, 0, $end + 1, q();
    chomp $line;
    return $line;
}

# Makes a pipe larger where Linux lets us. Both ends then wait for each other less often.
sub widen { fcntl $_[0], 1031, 1048576 if $^O eq 'linux' }

sub say_text { $output .= join q(), @_; flush() if length $output > 65536 }

sub flush {
    my $at = 0;
    while ($at < length $output) {
        my $count = syswrite STDOUT, $output, length($output) - $at, $at;
        if (defined $count) { $at += $count }
        # Nobody listens any more. What is under way comes to its end all the same.
        elsif (!$!{EINTR}) { last }
    }
    $output = q();
}

sub mark { say_text("HOSTSYNC $in{nonce} @_\n") }

# Ends this process. Whatever the reason is, sh has nothing left to do then.
sub quit {
    clean_up();
    flush();
    exit 0;
}

sub clean_up {
    # What is to be removed is named from the login folder on.
    chdir or @at_end = ();
    while (my $work = pop @at_end) { $work->() }
}

# Says why the task cannot go on, and ends. Whoever hears of the end finds nothing that was to be undone.
sub fail {
    my ($text) = @_;
    clean_up();
    mark('fail');
    say_text("$text\n");
    mark('end failed');
    quit();
}

# Gives signs of life from now on, for so many seconds. Work that takes longer than anything of its kind can
# is taken for dead. The signs are counted, because clocks can be set.
sub beat {
    my ($seconds) = @_;
    $SIG{ALRM} = sub {
        syswrite STDERR, q(.);
        $seconds -= $in{pulse};
        alarm $in{pulse} if $seconds > 0;
    };
    alarm $in{pulse};
}

sub rest { alarm 0 }

# --- running commands ----------------------------------------------------------------------------

# A child process: true in this one, 0 in the child, which has nothing of ours to undo.
sub start_child {
    my $child = fork;
    if (defined $child && !$child) {
        @at_end = ();
        for my $signal (qw(HUP INT TERM)) { $SIG{$signal} = 'DEFAULT' if ref $SIG{$signal} }
    }
    return $child;
}

# Where a command is.
sub find_command {
    my ($name) = @_;
    for my $folder (split /:/, $ENV{PATH} || q(/usr/bin:/bin)) {
        return "$folder/$name" if -f "$folder/$name" && -x _;
    }
    return;
}

# Runs commands at the same time, without input and without their complaints; what each of them wrote.
sub outputs_of {
    my @commands = @_;
    my (@pipes, @outputs);
    for my $command (@commands) {
        pipe my $reader, my $writer or fail("cannot make a pipe: $!");
        my $child = start_child();
        defined $child or fail("cannot start a process: $!");
        if (!$child) {
            open STDIN, q(<), q(/dev/null);
            open STDERR, q(>), q(/dev/null);
            open STDOUT, q(>&), $writer;
            { no warnings; exec { $command->[0] } @$command; }
            # Without the farewells of perl.
            kill 9, $$;
        }
        close $writer;
        push @pipes, [$reader, $child];
        push @outputs, q();
    }
    my $open = @pipes;
    while ($open) {
        my $waiting = q();
        vec($waiting, fileno $_->[0], 1) = 1 for grep { $_->[0] } @pipes;
        next if select(my $ready = $waiting, undef, undef, undef) < 0;
        for my $index (0 .. $#pipes) {
            my $pipe = $pipes[$index][0] or next;
            next unless vec $ready, fileno $pipe, 1;
            my $count = sysread $pipe, $outputs[$index], 65536, length $outputs[$index];
            next if !defined $count && $!{EINTR};
            next if $count;
            close $pipe;
            $pipes[$index][0] = undef;
            $open--;
        }
    }
    for my $pipe (@pipes) {
        1 while waitpid($pipe->[1], 0) < 0 && $!{EINTR};
    }
    return @outputs;
}

# --- digests -------------------------------------------------------------------------------------

# The tools that compute digests, the fastest first, with their algorithm and their digest of `abc`.
our @HASH_TOOLS = (
    ['blake3', '6437b3ac38465133', 'b3sum'],
    map { ['sha256', 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad', split] }
        'openssl dgst -sha256 -r', 'sha256sum', 'shasum -a 256'
);

# Picks the fastest tool that gives the right answer for a known text. A tool that did so in an earlier
# session is taken by its name: whatever it computes is compared with what it should be.
sub find_hash {
    my ($known) = @_;
    return 1 if @hash_command;
    for my $tool (@HASH_TOOLS) {
        my ($kind, $right, @command) = @$tool;
        next if defined $known && $known ne $command[0];
        find_command($command[0]) or next;
        if (!defined $known) {
            my ($answer) = outputs_of(['sh', '-c', 'printf abc | "$@"', 'sh', @command]);
            next if index $answer, $right;
        }
        ($algorithm, @hash_command) = ($kind, @command);
        return 1;
    }
    return 0;
}

# The same, computed by perl itself where that is faster than to start a process: for few bytes, and only if
# the module is loaded already. Otherwise undef.
sub own_sums_of {
    my ($paths) = @_;
    return unless $algorithm eq 'sha256' && $INC{'Digest/SHA.pm'} && @$paths <= 200;
    my ($sums, $bytes) = (q(), 0);
    for my $path (@$paths) {
        $bytes += -s $path || 0;
        return if $bytes > 1_000_000;
        my $sum = eval { Digest::SHA->new(256)->addfile($path, 'b')->hexdigest };
        $sums .= "$sum *$path\n" if defined $sum;
    }
    return $sums;
}

# What the tool says of files: a line with digest and path for each file that can be read. One process gets
# many files, and two processes share the work.
sub sums_of {
    my ($paths) = @_;
    my $own = own_sums_of($paths);
    return $own if defined $own;
    my @batches;
    my $length = 131072;
    for my $path (@$paths) {
        if ($length + length $path > 120000) {
            push @batches, [@hash_command];
            $length = 0;
        }
        push @{$batches[-1]}, $path;
        $length += 9 + length $path;
    }
    if (@batches == 1 && @$paths > 200) {
        my @all = splice @{$batches[0]}, scalar @hash_command;
        my $half = @all / 2;
        @batches = ([@hash_command, @all[0 .. $half - 1]], [@hash_command, @all[$half .. $#all]]);
    }
    my $sums = q();
    while (my @now = splice @batches, 0, 2) { $sums .= join q(), outputs_of(@now) }
    return $sums;
}

# Names and digests from what the tool says.
sub read_sums {
    my ($text) = @_;
    my %sums;
    for my $line (split /\n/, $text) {
        my $is_escaped = $line =~ s/^\\//;
        my ($sum, $name) = $line =~ /^([0-9a-f]{64})(?:  | \*)(.*)$/ or next;
        $name =~ s/\\\\/\\/g if $is_escaped;
        $sums{$name} = $sum;
    }
    return %sums;
}

# Digest of some bytes, with the name of its algorithm. undef where it cannot be computed.
sub digest_of {
    my ($bytes) = @_;
    return 'sha256:' . Digest::SHA::sha256_hex($bytes) if eval { require Digest::SHA };
    find_hash() or return;
    pipe my $reader, my $writer or return;
    my $child = start_child();
    defined $child or return;
    if (!$child) {
        close $reader;
        while (length $bytes) {
            my $count = syswrite $writer, $bytes;
            defined $count or last;
            substr $bytes, 0, $count, q();
        }
        kill 9, $$;
    }
    close $writer;
    open my $kept, q(<&), \*STDIN or return;
    open STDIN, q(<&), $reader or return;
    my $answer = qx(@hash_command 2>/dev/null);
    open STDIN, q(<&), $kept;
    waitpid $child, 0;
    return $answer =~ /^([0-9a-f]{64})/ ? "$algorithm:$1" : undef;
}

# --- entries -------------------------------------------------------------------------------------

# What tells an entry from what it was: type and permission bits, size, mtime, ctime, inode, owner,
# group, device. Times are exact to some hundred nanoseconds. Empty where nothing is.
sub tuple_of { return (Time::HiRes::lstat($_[0]))[2, 7, 9, 10, 1, 4, 5, 0] }

# One line for that. A time is three words, as in the answers of a script.
sub line_of {
    my ($tuple, $path) = @_;
    return sprintf "%x %d %.7f - - %.7f - - %d %d %d %d %s\n", @$tuple, $path;
}

# The listing that is kept on the host has a line with its format and the tool for digests, a line with the
# number of entries and the length of their paths, the paths, each ended by a NUL, and their stamps. The stamp
# of an entry tells whether it has moved. All stamps have the same length; zeros stand for an entry that is
# not there. Format 1 has the numbers of lstat. Format 2 has parts of what the kernel answers, which is twice
# as fast.
our %STAMP_BYTES = (1 => 64, 2 => 68);

# Numbers of system calls, where they and the layout of their answers are known.
use Config;
our ($NEWFSTATAT, $SYNCFS) = $Config{archname} =~ /^x86_64-linux/ ? (262, 306) : ();

# The stamps of paths.
sub stamps_of {
    my ($format, $paths) = @_;
    my $stamps = q();
    if ($format == 1) {
        for (@$paths) {
            my @tuple = tuple_of($_);
            $stamps .= pack 'd8', @tuple ? @tuple : (0) x 8;
        }
        return $stamps;
    }
    # Device and inode; type and permission bits, owner and group; size; mtime and ctime. A path is
    # relative to the working folder (-100), and a link is not followed (256).
    my ($is, $nothing) = ("\0" x 256, "\0" x $STAMP_BYTES{2});
    for (@$paths) {
        $stamps .=
            syscall($NEWFSTATAT, -100, $_, $is, 256) == 0
            ? substr($is, 0, 16) . substr($is, 24, 12) . substr($is, 48, 8) . substr($is, 88, 32)
            : $nothing;
    }
    return $stamps;
}

# The format that stamps are made in here.
sub stamp_format { return $NEWFSTATAT ? 2 : 1 }

# The listing with this digest: its format, the algorithm and the tool for digests, the paths and their
# stamps. Nothing where there is none. A session reads it once.
our @listing;

sub read_listing {
    my ($base, $digest) = @_;
    return @listing[1 .. 5] if @listing && $listing[0] eq "$base $digest";
    my $bytes = read_file("$base/listing.agent");
    return unless defined $bytes && (digest_of($bytes) || q()) eq $digest;
    $bytes =~ s/^([12]) (\S+) ([^\n]+)\n(\d+) (\d+)\n// or return;
    my ($format, $kind, $command, $count, $length) = ($1, $2, $3, $4, $5);
    return if $format > stamp_format();
    return unless length $bytes == $length + $count * $STAMP_BYTES{$format};
    my @paths = split /\0/, substr $bytes, 0, $length, q();
    return unless @paths == $count;
    @listing = ("$base $digest", $format, $kind, $command, \@paths, \$bytes);
    return @listing[1 .. 5];
}

sub read_file {
    my ($path) = @_;
    # Somebody may have put a pipe there, which would be waited for.
    sysopen my $file, $path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK or return;
    -f $file or return;
    my $bytes = q();
    while (1) {
        my $count = sysread $file, $bytes, 1048576, length $bytes;
        if (!defined $count) { next if $!{EINTR}; return }
        return $bytes unless $count;
    }
}

sub write_file {
    my ($path, $bytes) = @_;
    open my $file, q(>), $path or return 0;
    my $at = 0;
    while ($at < length $bytes) {
        my $count = syswrite $file, $bytes, length($bytes) - $at, $at;
        if (defined $count) { $at += $count }
        elsif (!$!{EINTR}) { return 0 }
    }
    return close $file;
}

sub folder_of {
    my ($path) = @_;
    return $path =~ m{^(.*)/[^/]*$}s ? (length $1 ? $1 : q(/)) : q(.);
}

sub below {
    my ($folder, $path) = @_;
    return $folder unless length $path;
    return $folder =~ m{/$} ? "$folder$path" : "$folder/$path";
}

# The same path, also from another working folder than the login folder.
sub from_root {
    my ($path) = @_;
    return $path =~ m{^/} ? $path : "$ENV{HOME}/$path";
}

# The names in a folder; none where it cannot be listed.
sub names_in {
    my ($path) = @_;
    opendir my $folder, $path or return;
    return grep { !/^\.\.?$/ } readdir $folder;
}

# --- folders of others ---------------------------------------------------------------------------

# Whether nobody but root and the login can put something else in the place of an entry: what lstat says
# of the folder, and the owner of the entry. An access list of a folder shows in the bits of its group. So root
# trusts no group; another login trusts the one that many systems make for a user, if nobody else is in it.
our $own_group;

sub is_ours_to_change {
    my ($folder, $owner) = @_;
    my ($mode, $uid, $gid) = @$folder[2, 4, 5];
    return 0 unless $uid == 0 || $uid == $>;
    return 1 unless $mode & 0022;
    if (!($mode & 0002) && $> && $gid == $) + 0) {
        # Only where it matters, since the system may have to ask a directory.
        if (!defined $own_group) {
            my @group = getgrgid $gid;
            $own_group = @group && $group[3] eq q() && $group[0] eq ((getpwuid $>)[0] // q());
        }
        return 1 if $own_group;
    }
    return $mode & 01000 && ($owner == 0 || $owner == $>);
}

# The folders of the last walk in which others can put something else in the place of the next one.
our @open_folders;

# A path as people write it.
sub shown { return $_[0] =~ m{^\.(/.*)?$}s ? q(~) . ($1 // q()) : $_[0] }

# Goes into a folder, name by name, from `/` or the login folder on. Nothing is followed but links that
# root or the login made where nobody else can put another one; and if $trusts, those of a login that is not
# root. Makes what is missing if $makes. Says why it got no further, else nothing.
sub walk {
    my ($path, $trusts, $makes) = @_;
    my $names_of = sub { grep { length && $_ ne q(.) } split m{/}, $_[0] };
    my ($at, $links) = ($path =~ m{^/} ? q(/) : q(~), 0);
    my @names = $names_of->($path);
    @open_folders = ();
    ($at eq q(/) ? chdir q(/) : chdir) or return "cannot go to the login folder: $!";
    while (defined(my $name = shift @names)) {
        my $next = below($at, $name);
        my @here = stat q(.);
        my @is = lstat "./$name";
        if (!@is && $makes && $!{ENOENT}) {
            mkdir "./$name" or return "cannot make $next: $!";
            @is = lstat "./$name";
        }
        @is or return "cannot reach $next: $!";
        my $is_link = -l _;
        push @open_folders, $at unless is_ours_to_change(\@here, $is[4]);
        if ($is_link) {
            my $is_of_us = $is[4] == 0 || $is[4] == $>;
            return "$next is a link that somebody else may have made"
                unless $is_of_us && (is_ours_to_change(\@here, -1) || $trusts && $>);
            my $target = $links++ < 40 ? readlink "./$name" : undef;
            defined $target or return "$next leads nowhere";
            if ($target =~ m{^/}) { chdir q(/) or return "cannot reach /: $!"; $at = q(/) }
            unshift @names, $names_of->($target);
        }
        else {
            go_into($name, @is) or return "$next is no folder that can be entered";
            $at = $next;
        }
    }
    return q();
}

# The folder that holds what a path names, and its name there. The login folder and `/` hold themselves.
sub split_off {
    my ($path) = @_;
    return ($path, q(.)) if $path =~ m{^\.?/*$};
    return (folder_of($path), './' . ($path =~ m{([^/]+)/*$})[0]);
}

# Whether others can put something else in the place of an entry.
sub can_be_exchanged {
    my ($path) = @_;
    my ($holder, $name) = split_off($path);
    my $obstacle = walk($holder);
    my @here = stat q(.);
    my @is = lstat $name;
    my $can = length $obstacle || @open_folders || !@is || !is_ours_to_change(\@here, $is[4]);
    chdir;
    return $can;
}

# Goes into a folder of the working folder: the one that lstat saw, and no other one that came into its place.
sub go_into {
    my ($name, @is) = @_;
    @is = lstat "./$name" unless @is;
    return 0 unless @is && $is[2] >> 12 == 4 && chdir "./$name";
    my @now = stat q(.);
    return $now[0] == $is[0] && $now[1] == $is[1];
}

# --- folders of ours -----------------------------------------------------------------------------

# Removes a file or folder of ours, and what links lead to stays. Only folders are made writable: a file may
# have another name outside. If $spares, a file that has another name stays: to take one of a file's names away
# changes its times, and a commit may be about to compare them.
sub remove_tree {
    my ($path, $spares) = @_;
    my ($holder, $name) = split_off($path);
    opendir my $here, q(.) or return;
    remove_here($name, $spares) if chdir $holder;
    chdir $here;
}

# The same, by its name in the working folder. A folder of somebody else is none of ours: its owner could
# exchange what is in it meanwhile.
sub remove_here {
    my ($name, $spares) = @_;
    my @is = lstat $name or return;
    if (-l _ || !-d _) {
        unlink $name unless $spares && $is[3] > 1;
        return;
    }
    return unless $is[4] == $>;
    opendir my $here, q(.) or return;
    chmod 0700, $name;
    if (go_into($name, @is)) {
        # The owner of a run goes last: until then the next run can tell that this one is dead.
        remove_here("./$_", $spares) for sort { ($a eq 'owner') <=> ($b eq 'owner') } names_in(q(.));
    }
    chdir $here;
    rmdir $name;
}

# Makes a folder and those above it that are missing.
sub make_folders {
    my ($folder) = @_;
    return 1 if -d $folder;
    if ($folder =~ m{^(.+)/[^/]+$}s) { make_folders($1) or return 0 }
    return 1 if mkdir $folder;
    my $reason = $!;
    return 1 if -d $folder;
    $! = $reason;
    return 0;
}

# Goes through a folder of ours and those above it, from the one named .hostsync or the configured one on, and
# makes what is missing; if $only_checks, nothing. They must be ours alone: what is staged in them becomes what
# hosts run. Whether they are there.
sub make_ours {
    my ($base, $only_checks) = @_;
    my $lineage = folder_of($base);
    my $top = folder_of($lineage);
    my ($holder, $name) = split_off($top);
    my $problem = walk($holder, 0, !$only_checks);
    if (length $problem) {
        chdir;
        return 0 if $only_checks && $problem =~ /^cannot reach /;
        fail_not_ours("cannot make the folder $top: $problem");
    }
    my @here = stat q(.);
    for my $at ($top, $lineage, $base) {
        $name = './' . ($at =~ m{([^/]+)$})[0] if $at ne $top;
        my @is = lstat $name;
        if (!@is) {
            if ($only_checks) { chdir; return 0 }
            mkdir $name or $!{EEXIST} or fail("cannot make the folder $at ($!)");
            @is = lstat $name;
        }
        fail_not_ours("$at is not a folder; move it away") if !@is || -l _ || !-d _;
        my ($mode, $uid) = @is[2, 4];
        # The topmost one may be a place for all logins, as long as nobody can rename what is in it.
        my $is_shared = $at eq $top && ($uid == 0 || $uid == $>) && $mode & 01000;
        if (!$is_shared) {
            fail_not_ours("$at can be written by others; take that permission away") if $mode & 022;
            fail_not_ours("$at belongs to another login; set staging_path to another place")
                unless $uid == $> || ($at eq $top && $uid == 0);
        }
        # What is above the topmost one decides what its name leads to.
        if ($at eq $top && (@open_folders || !is_ours_to_change(\@here, $uid))) {
            my $open = @open_folders ? $open_folders[0] : shown($holder);
            fail_not_ours("others can put another folder in the place of $top, since they can write to $open; "
                    . 'take that permission away or set staging_path to another place');
        }
        go_into($name, @is) or fail_not_ours("$at was exchanged meanwhile");
    }
    chdir;
    return 1;
}

# Fails because a folder of ours is not ours alone. Others could lead what is removed elsewhere, so nothing
# is.
sub fail_not_ours {
    @at_end = ();
    fail(@_);
}

# A process is known by its pid, its start time (0 where the system does not say) and the boot it
# belongs to. One that has ended is gone, even if nobody has collected it: in a container that may take
# for ever.
sub boot {
    my $boot = read_file('/proc/sys/kernel/random/boot_id');
    return 'unknown' unless defined $boot && length $boot;
    chomp $boot;
    return $boot;
}

sub started {
    my ($pid) = @_;
    my $stat = read_file("/proc/$pid/stat");
    return 0 unless defined $stat && $stat =~ s/^.*\) //s && $stat !~ /^[ZX]/;
    return (split / /, $stat)[19] || 0;
}

# Writes down that something belongs to this process.
sub sign {
    my ($path) = @_;
    return write_file("$path.new", join(q( ), $$, started($$), boot()) . "\n") && rename "$path.new", $path;
}

# Whether the process that signed is gone, and which it is: `unknown` where the file does not say. When in
# doubt, it is not.
sub is_gone {
    my ($path) = @_;
    my $text = read_file($path);
    return (0, 'unknown') unless defined $text && $text =~ /^(\d+) (\d+) (\S+)$/;
    my ($pid, $start, $where) = ($1, $2, $3);
    return (1, $pid) if $where ne boot();
    return (started($pid) ne $start, $pid) if -r '/proc/self/stat' && $start;
    return (!kill(0, $pid) && $!{ESRCH}, $pid);
}

# The folders of dead runs in a folder of ours. A run lasts as long as its session. One that does not say
# whose it is, is given an hour.
sub dead_runs {
    my ($base) = @_;
    return grep {
        my ($is_gone, $owner) = is_gone("$_/owner");
        !-l && -d _ && ($owner eq 'unknown' ? time - (lstat)[9] > 3600 : $is_gone)
    } map { "$base/$_" } grep { /^run-/ && $_ ne ($in{run} || q()) } names_in($base);
}

# Removes what dead runs have left in a folder of ours. A file that such a run put in place in its last
# moment may have a second name there, which stays unless $and_linked.
sub remove_dead_runs {
    my ($base, $and_linked) = @_;
    for my $run (dead_runs($base)) {
        for my $name (grep { $_ ne 'owner' } names_in($run)) {
            remove_tree("$run/$name", !$and_linked);
        }
        remove_tree($run) unless grep { $_ ne 'owner' } names_in($run);
    }
}

# Removes from the folder of a run that ends early what the next run cannot use. Partials of large files
# stay, for the next attempt to go on with, and so do the names of those who may still write into them.
sub leave {
    my ($run) = @_;
    return if -l $run || !-d _;
    rmdir "$run/large";
    if (!-e "$run/large") { remove_tree($run); return }
    remove_tree("$run/$_") for grep { !/^(?:owner|large|writer-.*)$/ } names_in($run);
}

# The lock that commits are made under. There is one for each login and boot, since several hosts of a
# configuration, and several configurations, may lead to the same place.
sub lock_of { return folder_of(folder_of($_[0])) . '/lock-' . boot() }

# Who has a lock: whether that process is gone, its pid, and the file in the lock that says so. Nothing where
# nobody has it. The file is named after the process. So whoever removes the file of a dead process never
# takes the lock from another one that has it by then.
sub holder_of {
    my ($lock) = @_;
    my ($name) = grep { /^owner/ } names_in($lock) or return;
    return (is_gone("$lock/$name"), "$lock/$name");
}

# --- the loop ------------------------------------------------------------------------------------

sub serve {
    # A child that is killed by a signal of ours must not take us along; one that we write to may be gone.
    $SIG{PIPE} = 'IGNORE';
    # A file that is larger than a login may have is to be an error with a reason.
    $SIG{XFSZ} = 'IGNORE' if exists $SIG{XFSZ};
    @SIG{qw(HUP INT TERM)} = (\&quit) x 3;
    widen(\*STDIN);
    binmode STDIN;
    binmode STDOUT;
    while (1) {
        my ($task, $skipped) = split / /, take_line();
        %in = ();
        while (length(my $line = take_line())) {
            my ($name, $value) = split /=/, $line, 2;
            $name =~ s/^hs_//;
            $value =~ s/%([0-9a-f]{2})/chr hex $1/ge;
            $in{$name} = $value;
        }
        take($skipped);
        # The code that most sessions never need comes with the first task that needs it.
        my $code = delete $in{code};
        if (!main->can($task)) { eval "$code; 1" or fail($@) }
        my $work = main->can($task);
        chdir or fail('the login folder does not exist');
        my $result = eval { $work->() };
        if (!defined $result) {
            my $why = $@ || 'no reason given';
            chomp $why;
            fail($why);
        }
        rest();
        mark("end $result waits");
        flush();
    }
}
