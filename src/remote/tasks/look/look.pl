# Looks at a host and answers what is there. Writes nothing. Its variables are those of look.sh.

# The nearest folder that exists at or above a path.
sub anchor_of {
    my ($at) = @_;
    until (-e $at || -l $at) { $at = folder_of($at) }
    return $at;
}

# Where a path lies: device, type, whether it may be written, and what exists of it.
sub place_of {
    my ($path, $what) = @_;
    use filetest q(access);
    my $at = anchor_of($path);
    my @is = stat $at;
    my ($device, $mode) = @is ? @is[0, 2] : (0, 0);
    return sprintf "%s %s %d %x %s\n", $what, -w $at ? 'rw' : 'ro', $device, $mode, $at;
}

# What others can do above a destination or a folder of ours: a line for the first folder in which they can put
# something else in its place; one for the first in which they could in that of a folder of ours beside it, and one
# for where ours is safe then; and one for what keeps us from getting there.
sub open_places {
    my ($path, $index, $trusts) = @_;
    my ($holder, $name) = split_off($path);
    my $there = anchor_of($holder);
    my $obstacle = walk($there, $trusts);
    my ($above, $beside, $shelter) = ($open_folders[0]) x 2;
    if (!length $obstacle) {
        my @here = stat q(.);
        # Where folders are missing above it, their first one will be ours.
        my @is = $there eq $holder ? lstat $name : ();
        my $is_folder = @is && -d _ && !-l _;
        $beside = shown($there) unless defined $beside || is_ours_to_change(\@here, $>);
        $above = shown($there) unless defined $above || is_ours_to_change(\@here, @is ? $is[4] : $>);
        # Others can exchange what is in the destination itself, too.
        $above = shown($path) unless defined $above || !$is_folder || is_ours_to_change(\@is, $>);
        # In a sticky folder, anybody can be the first to take the name of our folder.
        my @taken = lstat './.hostsync';
        $beside = shown(below($there, '.hostsync'))
            if @taken && $taken[4] != 0 && $taken[4] != $> && $index ne 'staging';
        $shelter = shelter_above($there, $here[0]) if defined $beside;
    }
    chdir;
    my @lines = (['above', $above], ['beside', $beside], ['shelter', $shelter]);
    push @lines, ['obstacle', $obstacle] if length $obstacle;
    return join q(), map { "$_->[0] $index $_->[1]\n" } grep { defined $_->[1] } @lines;
}

# The nearest folder above on the same file system in which nobody can exchange a folder of ours.
sub shelter_above {
    my ($at, $device) = @_;
    while ($at =~ m{^/.}) {
        $at = folder_of($at);
        return if length walk($at);
        my @here = stat q(.);
        return if $here[0] != $device;
        my @taken = lstat './.hostsync';
        return $at if -w q(.) && !@open_folders && is_ours_to_change(\@here, $>) && (!@taken || $taken[4] == 0 || $taken[4] == $>);
    }
    return;
}

# The topmost folders inside destinations in which others can exchange entries, as far as they are known: from
# what was looked at now, and from the stamps of what has not moved. Lines as those of open_places.
sub open_folders_within {
    my ($roots, $lines, $format, $paths, $stamps) = @_;
    my %open;
    my $look_at = sub {
        my ($path, $mode, $uid, $gid) = @_;
        $open{$path} = 1 if $mode >> 12 == 4 && !is_ours_to_change([0, 0, $mode, 0, $uid, $gid], $>);
    };
    $look_at->($_->[1], @{$_->[0]}[0, 5, 6]) for @$lines;
    if ($paths) {
        my $bytes = $STAMP_BYTES{$format};
        for my $index (0 .. $#$paths) {
            my $stamp = substr $$stamps, $index * $bytes, $bytes;
            $look_at->($paths->[$index], $format == 2 ? unpack('x16L3', $stamp) : (unpack 'd8', $stamp)[0, 5, 6]);
        }
    }
    my ($answer, $top) = (q());
    for my $path (sort keys %open) {
        next if defined $top && index("$path/", "$top/") == 0;
        $top = $path;
        for my $index (0 .. $#$roots) {
            my $root = $roots->[$index];
            $root .= q(/) unless $root =~ m{/$};
            $answer .= "within $index $path\n" if index($path, $root) == 0;
        }
    }
    return $answer;
}

sub look {
    beat($in{patience});
    my $data = take($in{paths});
    my ($answer, @lines, @gone, %seen, $listed, $format, $now) = ('full');
    my ($kind, $command);
    my (@complaints, %has_moved);

    # Waits for what another run is in the middle of. A lock without an owner is nobody's.
    my $lock = lock_of($in{base});
    for (1 .. 10) {
        my ($is_gone, $holder) = holder_of($lock);
        last if $is_gone || !defined $holder;
        sleep 1;
    }

    # What moved since the listing was made.
    if ($in{mode} eq 'quick') {
        $answer = 'lost';
        ($format, $kind, $command, my $paths, my $stamps) = read_listing($in{base}, $in{listing});
        if ($paths) {
            $listed = $paths;
            find_hash($command);
            $now = stamps_of($format, $paths);
            $answer = 'same';
            if ($now ne $$stamps) {
                $answer = 'moved';
                my $bytes = $STAMP_BYTES{$format};
                for my $index (0 .. $#$paths) {
                    my $path = $paths->[$index];
                    next if substr($now, $index * $bytes, $bytes) eq substr($$stamps, $index * $bytes, $bytes);
                    # What it was before is of no interest.
                    push @gone, line_of([(0) x 8], $path);
                    my @tuple = tuple_of($path);
                    push @lines, [\@tuple, $path] if @tuple;
                    $seen{$path} = $has_moved{$path} = 1;
                }
            }
        }
    }

    # Places, and whether any destination is there.
    my ($places, $open, $has_root, @roots) = (q(), q(), 0);
    for my $index (0 .. $in{roots} - 1) {
        my $root = $in{"root_$index"};
        push @roots, $root;
        $has_root = 1 if -e $root || -l $root;
        $places .= place_of(folder_of($root), "parent $index");
        $places .= place_of($root, "inside $index") if -d $root && !-l $root;
        $open .= open_places($root, $index, $in{"trust_$index"});
    }
    $places .= place_of($in{staging}, 'staging 0');
    $open .= open_places($in{staging}, 'staging');

    # All paths that were asked for, and all below the mirrored destinations. Where no destination is
    # there yet, there is nothing below any of them.
    my @closed;
    if ($answer ne 'lost') {
        my @asked = $has_root ? split /\0/, $data : ();
        if ($in{mode} eq 'full') {
            for my $index (split / /, $in{mirrors}) {
                # A name with a newline cannot be told from two names. What is ours is not theirs.
                my ($found) = outputs_of(
                    ['find', $roots[$index], '-name', '.hostsync', '-prune', '-o', '-name', "*\n*", '-prune', '-o', '-print0']
                );
                push @asked, split /\0/, $found;
            }
        }
        for my $path (@asked) {
            next if $seen{$path}++;
            my @tuple = tuple_of($path);
            if (@tuple) { push @lines, [\@tuple, $path] }
            # Links that lead in a circle lead to nothing.
            elsif (!$!{ENOENT} && !$!{ENOTDIR} && !$!{ELOOP}) { push @complaints, "cannot look at $path: $!\n" }
        }
        # What is in these, a mirror does not see.
        if ($in{mode} eq 'full' && length $in{mirrors}) {
            use filetest q(access);
            @closed = grep { !-r $_ || !-x $_ } map { $_->[1] } grep { $_->[0][0] >> 12 == 4 } @lines;
        }
    }

    # Only root could be led anywhere.
    $open .= open_folders_within(\@roots, \@lines, $format, $listed, \$now) if $> == 0;

    my @files = map { $_->[1] } grep { $_->[0][0] >> 12 == 8 } @lines;
    if ($listed && @files) {
        # What has not moved since the listing was made has the content that is recorded.
        my %is_left = map { $_ => 1 } @files;
        delete @is_left{grep { !$has_moved{$_} } @$listed};
        @files = grep { $is_left{$_} } @files;
    }
    # Which tool there is, the listing knows; it is looked for where it has something to do.
    if (!defined $command || @files) {
        find_hash() or fail('this host has no tool for sha256 or blake3 (sha256sum, openssl, shasum, b3sum)');
        ($kind, $command) = ($algorithm, $hash_command[0]);
    }

    mark('facts');
    say_text(
        "algorithm=$kind\ntool=$command\nuid=$>\ngid=", $) + 0, "\n",
        'scp=', find_command('scp') && !-e '/etc/ssh/disable_scp' ? 'yes' : q(), "\n",
        'tar=', find_command('tar') ? 'yes' : q(), "\n",
        'left=', dead_runs($in{base}) ? 'yes' : q(), "\nagent=yes\n"
    );
    mark('places');
    say_text($places);
    mark('open');
    say_text($open);
    mark("listing $answer");
    return 'ok' if $answer eq 'lost';
    if (@gone) {
        mark('gone');
        say_text(@gone);
    }
    if (@complaints) {
        mark('complaints');
        say_text(@complaints);
    }
    if (@closed) {
        mark('closed');
        say_text("$_\n") for @closed;
    }
    mark('stat');
    say_text(line_of(@$_)) for @lines;
    mark('links');
    for my $path (map { $_->[1] } grep { $_->[0][0] >> 12 == 10 } @lines) {
        my $target = readlink $path;
        say_text("$path\0$target\0") if defined $target;
    }
    if (@files) {
        # Two megabytes a second is slow for any disk.
        my $bytes = 0;
        $bytes += $_->[0][1] for grep { $_->[0][0] >> 12 == 8 } @lines;
        beat($in{patience} + int($bytes / 2_000_000));
        mark('sums');
        # The controller sees by what came before how long this may take.
        flush();
        say_text(sums_of(\@files));
    }
    return 'ok';
}
