# Verifies what was uploaded and moves it into place. Its variables and what it reads are those of
# commit.sh.

# What the steps share: which of them were taken, which folders are known to exist, and why the last attempt
# did not work.
our (%is_done, %made, $why);
# Digests of large files that are known already, by their staged path.
our %large_sums;
# Files of ours that tell the time of their file systems.
our @clocks;

sub commit {
    umask 077;
    %is_done = %made = %large_sums = ();
    my @bases = map { $in{"base_$_"} } 0 .. $in{bases} - 1;
    my @places = map { [$in{"root_$_"}, $bases[$in{"at_$_"}]] } 0 .. $in{mappings} - 1;
    my ($home, $run) = @in{qw(home run)};
    beat($in{patience} + $in{wait});
    my ($intent, $staged, $sums, $paths, $large) = map { take($in{$_}) } qw(intent staged sums paths large);
    make_ours($_) for @bases;
    # What this session has received is for this task to undo.
    @at_end = sub { leave("$_/$run") for @bases };
    find_hash() or fail('this host has no tool for sha256 or blake3 any more');

    my $work = "$home/$run";
    # Makes room before it needs any.
    remove_dead_runs($_) for @bases;
    if (!-d $work) {
        mkdir $work or fail("cannot make a folder in $home ($!)");
        sign("$work/owner") or fail("cannot write in $home ($!)");
    }
    # What is about to happen: the steps with what must be there before, and digests of what comes.
    my %journal = (intent => $intent, staged => $staged, sums => $sums);
    for my $name (sort keys %journal) {
        write_file("$work/$name", $journal{$name}) or fail("cannot write in $work ($!)");
    }

    # One run at a time.
    my $lock = lock_of($home);
    if (defined(my $holder = lock_out($lock, $work))) {
        clean_up();
        mark('locked');
        say_text("$holder\n");
        mark('end locked');
        quit();
    }
    # The last thing to go: whoever gets the lock finds nothing that is still to be removed.
    unshift @at_end, sub { unlink "$lock/" . lock_name(); rmdir $lock };

    place_large(\@bases, $large) if length $large;
    my @wrong = differences(\@bases, $staged, $sums);
    if (@wrong) {
        clean_up();
        mark('unverified');
        say_text("$_\n") for grep { defined } @wrong[0 .. 4];
        mark('end unverified');
        quit();
    }

    # Everything that the steps need is on the disk before the first of them.
    sync_all(@bases);
    # A connection that breaks from here on does not stop it.
    local $SIG{HUP} = 'IGNORE';
    # A serial comes twice when an older state was brought back. Its backups are kept apart.
    my $kept = $in{serial};
    for (my $n = 2; grep { -e "$_/backup/$kept" } @bases; $n++) { $kept = "$in{serial}-$n" }
    mark('steps', $kept);
    my %devices;
    for my $base (@bases) {
        make_folders("$base/$run") or fail("cannot make a folder in $base ($!)");
        my $device = (stat "$base/$run")[0];
        $devices{$device} = from_root("$base/$run/clock") if defined $device;
    }
    @clocks = values %devices;
    # The steps go from folder to folder.
    take_steps($run, $kept, $intent, map { [$_->[0], from_root($_->[1])] } @places);
    chdir;
    sync_all(@bases);

    keep_listing($home, $work, $paths);
    # Under the lock: what another run does from then on has to stay.
    for my $base (@bases) {
        remove_tree("$base/$run");
        remove_dead_runs($base, 1);
        remove_old_backups("$base/backup", $kept);
    }
    clean_up();
    return 'ok';
}

# The file in the lock that says that it is ours.
sub lock_name { return join q(-), 'owner', $$, started($$) }

# Takes the lock. The pid of its holder if it cannot be had in time, else undef.
sub lock_out {
    my ($lock, $work) = @_;
    # Signed before it is in place: a lock without an owner would never be given up. A folder is moved
    # onto another one only while that is empty.
    mkdir "$work/lock" or fail("cannot make a folder in $work ($!)");
    sign("$work/lock/" . lock_name()) or fail("cannot write in $work ($!)");
    my $waited = 0;
    until (rename "$work/lock", $lock) {
        # One of another login may not be replaced at all.
        $!{ENOTEMPTY} || $!{EEXIST} || $!{EPERM} or fail("cannot make the lock $lock ($!)");
        my ($is_gone, $holder, $owner) = holder_of($lock);
        # Of those that see this at once, the first that moves its own lock there has it.
        next if $is_gone && unlink $owner;
        $holder = 'unknown' unless defined $holder;
        return $holder if $waited >= $in{wait};
        $waited++;
        sleep 1;
    }
    return;
}

# Puts the large files, which came in blocks, among the other staged files. The verification finds what is
# missing or wrong.
sub place_large {
    my ($bases, $large) = @_;
    end_writers("$_/$in{run}") for @$bases;
    my @lines = split /\n/, $large;
    while (@lines >= 2) {
        my ($head, $path) = splice @lines, 0, 2;
        my ($number, $id, $size, $mode, $mtime, $how) = split / /, $head;
        my $base = $bases->[$number];
        my ($folder, $new) = ("$base/$in{run}/large", "$base/$in{run}/up/$path");
        my $partial = "$folder/$id";
        merge_extents($folder, $id);
        truncate $partial, $size if -e $partial && -s _ > $size;
        my $sum = streamed_sum($id);
        $large_sums{$path} = $sum if defined $sum && $how eq 'move';
        next unless $how eq 'move' ? rename $partial, $new : copy_to($partial, $new, $size);
        utime $mtime, $mtime, $new;
        chmod oct $mode, $new;
        my ($received, $counts) = @{$received{$base} ||= [{}, {}]};
        $received->{$path} = 1;
        $counts->{$path =~ m{^(.*/)}s ? $1 : q()}++;
    }
}

# The staged files that are not what they are to be.
sub differences {
    my ($bases, $staged, $sums) = @_;
    my (@wrong, %names);
    my %got = (early_sums(), %large_sums);
    my @sums = split /\n/, $sums;
    for my $line (split /\n/, $staged) {
        my ($base, $name) = split / /, $line, 2;
        $names{$base}{$name} = shift @sums;
    }
    for my $number (sort keys %names) {
        my $base = $bases->[$number];
        my $wanted = $names{$number};
        my ($received, $counts) = @{delete $received{$base} || [{}, {}]};
        push @wrong, grep { !exists $wanted->{$_} } sort keys %$received;
        my @names = sort keys %$wanted;
        chdir "$base/$in{run}/up" or fail("cannot open the staging folder in $base ($!)");
        # What nobody sent is not moved into place.
        for my $folder (keys %$counts) {
            my $entries = names_in($folder || q(.));
            push @wrong, $folder || q(.) if $entries != $counts->{$folder};
        }
        %got = (%got, read_sums(sums_of([grep { !$got{$_} } @names])));
        chdir;
        for my $name (@names) {
            push @wrong, $name if !$received->{$name} || ($got{$name} || q()) ne $wanted->{$name};
        }
    }
    return @wrong;
}

# Makes durable what was written, once for each file system that is written to.
sub sync_all {
    my %seen;
    for my $base (@_) {
        my $device = (stat $base)[0];
        next if !defined $device || $seen{$device}++;
        if ($SYNCFS && sysopen my $folder, $base, O_RDONLY) {
            next if syscall($SYNCFS, fileno $folder) == 0;
        }
        # Not every sync knows one file system from the others.
        system('sync', '-f', $base) == 0 or system('sync');
    }
}

# Waits until whatever changes from now on gets a later time than all that has changed by now, on every file
# system that is written to. Their clocks tick every few milliseconds, some every second. A clock that is set
# back meanwhile has moved on, too.
sub tick {
    my $first;
    for my $clock (@clocks) {
        open my $file, q(>), $clock or die "cannot write $clock: $!\n";
        my $now = sub {
            utime undef, undef, $file or die "cannot set the time of $clock: $!\n";
            return (Time::HiRes::lstat($clock))[10]
                // die "somebody has removed $clock; run the same command again\n";
        };
        my ($before, $time) = $now->();
        do {
            Time::HiRes::sleep(0.001);
            $time = $now->();
        } until $time != $before;
        $first = $time unless defined $first && $first < $time;
    }
    return $first;
}

# Makes the listing for the next plan, and answers what is in it.
sub keep_listing {
    my ($home, $work, $paths) = @_;
    my $keep = $in{keep};
    # That of a script is not kept up, so it can only be wrong.
    unlink "$home/listing";
    my ($format, $old_paths, $old_stamps) = stamp_format();
    if ($keep eq 'part') {
        ($format, undef, undef, $old_paths, $old_stamps) = read_listing($home, $in{listing});
        # It is not the one that the plan was made with.
        $keep = 'nothing' unless $old_paths;
    }
    if ($keep eq 'nothing') {
        unlink "$home/listing.agent";
        return;
    }
    # Whatever changes after the listing was made must get a later time than what is in it.
    tick();
    my @fresh = split /\n/, $paths;
    # First the stamps, then what is answered: what moves in between is seen by the next plan.
    my $fresh_stamps = stamps_of($format, \@fresh);
    my (@names, %place);
    my $stamps = q();
    if ($keep eq 'part') {
        @names = @$old_paths;
        $stamps = $$old_stamps;
        # Where those that are looked at again were.
        my %fresh = map { $_ => 1 } @fresh;
        for my $index (0 .. $#names) { $place{$names[$index]} = $index if $fresh{$names[$index]} }
    }
    my $bytes = $STAMP_BYTES{$format};
    my (@tuples, %has_fractions) = map { [tuple_of($_)] } @fresh;
    for my $tuple (grep { @$_ } @tuples) { $has_fractions{$tuple->[7]} ||= $tuple->[3] != int $tuple->[3] }
    if (grep { !$_ } values %has_fractions) {
        # Where times are whole seconds, a change within the second that an entry was put in place would
        # not show. Such a file system is looked at in full by every plan.
        unlink "$home/listing.agent";
        return;
    }
    mark("listing $keep");
    for my $number (0 .. $#fresh) {
        my $path = $fresh[$number];
        my @tuple = @{$tuples[$number]} or next;
        my $index = delete $place{$path};
        if (!defined $index) {
            $index = @names;
            push @names, $path;
        }
        substr($stamps, $index * $bytes, $bytes) = substr $fresh_stamps, $number * $bytes, $bytes;
        say_text(line_of(\@tuple, $path));
    }
    # What is left of them is no longer there.
    for my $index (sort { $b <=> $a } values %place) {
        splice @names, $index, 1;
        substr $stamps, $index * $bytes, $bytes, q();
    }
    my $all = join q(), map { "$_\0" } @names;
    my $listing = "$format $algorithm $hash_command[0]\n" . @names . q( ) . length($all) . "\n$all$stamps";
    my $digest = digest_of($listing);
    write_file("$work/listing", $listing) && rename "$work/listing", "$home/listing.agent"
        or die "cannot write the listing: $!\n";
    mark('digest');
    say_text(defined $digest ? "$digest\n" : q());
}

# Keeps the backups that were just made, then the newest: not by serial, since an older state may come
# back.
sub remove_old_backups {
    my ($folder, $kept) = @_;
    my %time = map { $_ => (Time::HiRes::lstat("$folder/$_"))[9] } names_in($folder);
    my $left = $in{backups};
    $left-- if $left && delete $time{$kept};
    for my $name (sort { $time{$b} <=> $time{$a} } keys %time) {
        remove_tree("$folder/$name") if $left-- <= 0;
    }
}

# --- the steps -----------------------------------------------------------------------------------

# What was found where a step begins, as tuple_of gives it.
our @checked;

# Whether the host still has what it had when it was looked at. Of a folder, type, permission bits and
# inode count.
sub is_as_expected {
    my ($dest, $expected, $is_folder) = @_;
    my @is = @checked = tuple_of($dest);
    return !@is if $expected eq q(-);
    return 0 unless @is;
    return sprintf('%x %d', @is[0, 4]) eq $expected if $is_folder;
    return line_of(\@is, q()) eq "$expected \n";
}

# The folder that holds the last entry, and by mapping the folder that holds its root, by device and inode.
our ($entered, %holders);

# Goes to the folder that holds an entry of a mapping, and says its name there; undef and why where that
# cannot be reached. Below the root of a mapping, nothing is followed.
sub go_to_entry {
    my ($mapping, $root, $path) = @_;
    my ($holder, $name) = split_off($root);
    my @names = split m{/}, $path;
    unshift @names, $name;
    $name = './' . pop @names;
    my $folder = join q(/), $mapping, @names;
    return $name if defined $entered && $entered eq $folder;
    undef $entered;
    my $problem = walk($holder, $in{"trust_$mapping"});
    return (undef, $problem) if length $problem;
    my $is = join q( ), (stat q(.))[0, 1];
    $holders{$mapping} = $is unless defined $holders{$mapping};
    return (undef, q()) unless $holders{$mapping} eq $is;
    my $open = $open_folders[0];
    my @way = (@names, $name);
    while (defined(my $next = shift @way)) {
        my @here = stat q(.);
        my @is = lstat $next;
        $open = 'its folder' unless defined $open || is_ours_to_change(\@here, @is ? $is[4] : $>);
        last unless @way;
        go_into($next, @is) or return (undef, q());
    }
    # What a plan has not shown, nobody has accepted.
    return (undef, "others can change $open; `trust_ancestors` accepts that")
        if defined $open && $> == 0 && !$in{"trust_$mapping"};
    $entered = $folder;
    return $name;
}

# Sets permission bits: of the entry with this inode and device, and of nothing that came into its place.
sub set_mode {
    my ($mode, $path, $inode, $device) = @_;
    my $file;
    # What we may not read we may still own.
    my $is_open = sysopen($file, $path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
        || ($^O eq 'linux' && sysopen $file, $path, O_NOFOLLOW | 010000000);
    return failed() unless $is_open;
    my @is = stat $file;
    if (!@is || $is[1] != $inode || $is[0] != $device) {
        $! = 116;
        return failed();
    }
    return chmod($mode, $file) || chmod($mode, '/proc/self/fd/' . fileno $file) || failed();
}

# Says that a step was taken, and when that changed the entry, so that any later change can be told.
sub done {
    my ($step, $dest) = @_;
    $is_done{$step} = 1;
    my @is = tuple_of($dest);
    say_text("done $step ", @is ? sprintf('%.7f', $is[3]) : q(), "\n");
}

# Remembers why something did not work.
sub failed {
    $why = "$!";
    return 0;
}

sub make_backup_folder {
    my ($folder) = @_;
    return 1 if $made{$folder};
    return $made{$folder} = make_folders($folder) || failed();
}

# What came into its place meanwhile goes back: a folder of somebody else must not be among ours.
sub move_to_backup {
    my ($dest, $old) = @_;
    make_backup_folder(folder_of($old)) or return 0;
    rename $dest, $old or return failed();
    my @is = tuple_of($old);
    return 1 if $is[4] == $checked[4] && $is[7] == $checked[7];
    rename $old, $dest unless -e $dest || -l $dest;
    $why = 'somebody has exchanged it';
    return 0;
}

sub keep_in_backup {
    my ($dest, $old) = @_;
    make_backup_folder(folder_of($old)) or return 0;
    if (-l $dest) {
        my $target = readlink $dest;
        return defined $target && symlink($target, $old) || failed();
    }
    return 1 if link $dest, $old;
    # Where links to files of others are forbidden.
    return 1 if system('cp', '-pPR', '--', $dest, $old) == 0;
    $why = 'neither a link nor a copy can be made';
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

# Gives a tree to a group, as far as the login user may.
sub give_group {
    my ($gid, $path) = @_;
    return if -l $path;
    chown -1, $gid, $path;
    -d $path or return;
    give_group($gid, "$path/$_") for names_in($path);
}

sub take_steps {
    my ($run, $kept, $intent, @places) = @_;
    my $has_begun = 0;
    undef $entered;
    %holders = ();
    my @lines = split /\n/, $intent, -1;
    while (@lines >= 3) {
        my ($head, $path, $expected) = splice @lines, 0, 3;
        my ($what, $step, $mapping, $arg, $arg2) = split / /, $head;
        my ($root, $base) = @{$places[$mapping]};
        my ($new, $old) = map { below($_, $path) } "$base/$run/up/$mapping", "$base/backup/$kept/$mapping";
        $why = q();

        if ($what eq 'link') {
            symlink $expected, $new or die "cannot make a symbolic link in $base: $!\n";
            next;
        }
        if ($what eq 'touch') { utime $arg, $arg, $new; next }
        if ($what eq 'bits')  { chmod oct $arg, $new;   next }
        if (!$has_begun) {
            # The moment after which whatever changes is visible: what was staged is older.
            $has_begun = 1;
            say_text(sprintf "begun - %.7f\n", tick());
        }
        if ($what eq 'parents') {
            my $mask = umask $login_umask;
            undef $entered;
            walk(folder_of($root), $in{"trust_$mapping"}, 1);
            umask $mask;
            next;
        }
        my ($dest, $obstacle) = go_to_entry($mapping, $root, $path);
        if (!defined $dest) {
            # What lies below the root of a mapping has moved; what lies above is told.
            say_text(length $obstacle ? "refused $step $obstacle\n" : "moved $step\n") if $what ne 'relock';
            next;
        }
        if ($what eq 'relock') {
            # Only what the step that is named second has put there, or has opened.
            my @is = lstat $dest;
            set_mode(oct $arg, $dest, @is[1, 0]) if $is_done{$arg2} && @is && -d _ && !-l _;
            next;
        }

        my $is_folder = $what =~ /^(?:clear|rmdir|unlock)$/
            || ($what eq 'chmod' && defined $arg2 && $arg2 eq 'folder');
        if (!is_as_expected($dest, $expected, $is_folder)) {
            say_text("moved $step\n");
            next;
        }
        my $problem;
        if ($what eq 'new') {
            if ($arg ne q(=)) {
                # The group that a folder gives to what is made in it.
                give_group($arg, $new);
                chmod oct $arg2, $new unless -l $new;
            }
            place($new, $dest) or $problem = 'cannot put it in place';
        }
        elsif ($what eq 'replace') {
            if ($arg ne q(=) && !-l $new) {
                # The owner and group of what is replaced, as far as the login user may set them.
                my ($uid, $gid) = split /:/, $arg;
                chown $uid, $gid, $new or chown -1, $gid, $new;
                chmod oct $arg2, $new;
            }
            if (!keep_in_backup($dest, $old)) { $problem = 'cannot keep a backup of it' }
            elsif (!rename $new, $dest) { failed(); $problem = 'cannot put it in place' }
        }
        elsif ($what eq 'retype') {
            if (!move_to_backup($dest, $old)) { $problem = 'cannot keep a backup of it' }
            elsif (!place($new, $dest)) {
                my $cause = $why;
                rename $old, $dest unless -e $dest || -l $dest;
                ($problem, $why) = ('cannot put it in place', $cause);
            }
        }
        elsif ($what eq 'clear') {
            # A folder that makes room: only while it is empty.
            if (rmdir $dest) { place($new, $dest) or $problem = 'cannot put it in place' }
            elsif ($!{ENOTEMPTY} || $!{EEXIST}) {
                $problem = 'the folder holds what hostsync has not written; move that away';
            }
            else { failed(); $problem = 'cannot remove the folder' }
        }
        elsif ($what eq 'delete') {
            move_to_backup($dest, $old) or $problem = 'cannot move it to the backups';
        }
        elsif ($what eq 'rmdir') {
            if (!rmdir $dest) {
                if (defined $arg && $arg eq 'spare' && ($!{ENOTEMPTY} || $!{EEXIST})) {
                    # Somebody else keeps something in it.
                    say_text("spared $step\n");
                    next;
                }
                failed();
                $problem = 'cannot remove the folder';
            }
        }
        elsif ($what eq 'chmod') {
            set_mode(oct $arg, $dest, @checked[4, 7]) or $problem = 'cannot set the permission bits';
        }
        elsif ($what eq 'unlock') {
            # A folder of ours that may not be written, while its entries change.
            set_mode(($checked[0] & 07777) | 0700, $dest, @checked[4, 7]) or $problem = 'cannot open the folder';
        }
        if (defined $problem) {
            say_text("refused $step $problem", length $why ? ": $why" : q(), "\n");
        }
        else {
            done($step, $dest);
        }
    }
}
