# Prepares the partials of large files, and answers the digests of their blocks. A partial is what this
# host has of a file so far; an upload of the blocks that are wrong or missing completes it. Its
# variables and what it reads are those of blocks.sh.

sub blocks {
    umask 077;
    beat($in{patience});
    my ($base, $run) = @in{qw(base run)};
    # The time between these two is a round trip.
    mark('begun');
    flush();
    my @lines = split /\n/, take($in{files}), -1;
    mark('taken');
    flush();
    find_hash() or fail('this host has no tool for sha256 or blake3 any more');
    make_ours($base);
    my $folder = "$base/$run/large";
    make_folders($folder) or fail("cannot make a folder in $base ($!)");
    my @wanted;
    while (@lines >= 2) {
        my ($head, $in_place) = splice @lines, 0, 2;
        push @wanted, [split(/ /, $head), $in_place];
    }
    adopt($base, $folder, map { $_->[0] } @wanted);
    # Makes room before it needs any.
    remove_dead_runs($base);
    # Also where an earlier session of this run did: it may be gone, or about to write again.
    end_writers("$base/$run");
    sign("$base/$run/owner") or fail("cannot write in $base ($!)");
    for my $index (0 .. $#wanted) {
        my ($id, $size, $in_place) = @{$wanted[$index]};
        $large_size{$id} = $size;
        my $partial = "$folder/$id";
        remove_tree($partial) if -l $partial || !-f _;
        -e $partial or copy_to($in_place, $partial, $size) or write_file($partial, q()) or fail("cannot write in $base ($!)");
        merge_extents($folder, $id);
        truncate $partial, $size if -s $partial > $size;
        mark('blocks', $index);
        say_text("$_\n") for block_sums($folder, $id);
    }
    return 'ok';
}

# Takes over what dead runs have left of these files, from whoever still writes into it.
sub adopt {
    my ($base, $folder, @ids) = @_;
    my %is_wanted = map { $_ => 1 } @ids;
    for my $run (dead_runs($base)) {
        end_writers($run);
        for my $name (names_in("$run/large")) {
            my ($id) = split /\./, $name;
            rename "$run/large/$name", "$folder/$name" if $is_wanted{$id} && !-e "$folder/$name";
        }
    }
}

# Ends the processes that write into the partials of a run, apart from this one. A session that stalled may
# go on at any time, when its partial may be in place already.
sub end_writers {
    my ($run) = @_;
    for my $path (map { "$run/$_" } grep { /^writer-[0-9]+$/ } names_in($run)) {
        my ($is_gone, $pid) = is_gone($path);
        next if $pid eq $$;
        kill 9, $pid if !$is_gone && $pid =~ /^[0-9]+$/;
        unlink $path;
    }
}

# Copies so much of a file, if it is one. Never a link: what is written into the copy must not change
# the file. Nothing is copied where others can put something else in its place meanwhile.
sub copy_to {
    my ($from, $to, $size) = @_;
    lstat $from;
    return 0 unless -f _ && !can_be_exchanged($from);
    my $copy = folder_of($to) . "/copy-$$";
    my @ways = (['cp', '--reflink=auto', '--', $from, $copy], ['cp', '--', $from, $copy]);
    @ways = (['sh', '-c', 'head -c "$1" <"$2" >"$3"', 'sh', $size, $from, $copy]) if -s _ > $size;
    for my $way (@ways) {
        outputs_of($way);
        return 1 if $? == 0 && chmod(0600, $copy) && rename $copy, $to;
        unlink $copy;
    }
    return 0;
}

# Puts extents, which scp and tar have received as files of their own, into the partial of a file.
sub merge_extents {
    my ($folder, $id) = @_;
    for my $name (grep { /^\Q$id\E\.[0-9]+$/ } names_in($folder)) {
        # Never moved: a receiver that stalled may still have it open when the file is in place.
        my ($extent, $partial) = ("$folder/$name", "$folder/$id");
        my ($start) = $name =~ /([0-9]+)$/;
        outputs_of(['dd', "if=$extent", "of=$partial", "bs=$in{block}", "seek=$start", 'conv=notrunc']);
        unlink $extent;
    }
}

# Digests of the blocks of a file. Two processes compute them, each those of one half: a tool is
# given two pipes in turns as its files, and each opening waits for the other end. None if it does not
# work.
sub block_sums {
    my ($folder, $name) = @_;
    my $count = int(((-s "$folder/$name") + $in{block} - 1) / $in{block});
    chdir $folder or return;
    my @sums;
    # So many names are well below what the system takes as arguments.
    for (my $from = 0; $from < $count; $from += 4000) {
        my $to = $from + 4000 < $count ? $from + 4000 : $count;
        my $middle = int(($from + $to + 1) / 2);
        my (@commands, @writers);
        for my $half ([$from, $middle], [$middle, $to]) {
            my @blocks = $half->[0] .. $half->[1] - 1 or next;
            my @pipes = map { "pipe-$$-" . @commands . "-$_" } 0, 1;
            outputs_of(['mkfifo', @pipes]);
            push @commands, [@hash_command, map { $pipes[$_ % 2] } @blocks];
            push @writers, writer_of($name, \@pipes, @blocks);
        }
        push @sums, map { /^\\?([0-9a-f]{64})/ ? $1 : () } map { split /\n/ } outputs_of(@commands);
        # A tool that gave up leaves its writer waiting.
        kill 9, @writers;
        waitpid $_, 0 for @writers;
        unlink grep { /^pipe-$$-/ } names_in(q(.));
    }
    chdir;
    return @sums == $count ? @sums : ();
}

# A process that writes these blocks of a file into pipes, each into the one that is its turn.
sub writer_of {
    my ($name, $pipes, @blocks) = @_;
    my $child = start_child();
    defined $child or fail("cannot start a process: $!");
    return $child if $child;
    if (open my $file, q(<), $name) {
        sysseek $file, $blocks[0] * $in{block}, 0;
        for my $block (@blocks) {
            sysopen my $pipe, $pipes->[$block % 2], O_WRONLY or last;
            my $left = $in{block};
            while ($left > 0) {
                my $count = sysread $file, my $bytes, $left < 65536 ? $left : 65536;
                last unless $count;
                $left -= $count;
                while (length $bytes) {
                    my $written = syswrite $pipe, $bytes;
                    defined $written or kill 9, $$;
                    substr $bytes, 0, $written, q();
                }
            }
            close $pipe;
        }
    }
    # Without the farewells of perl.
    kill 9, $$;
}

# Starts a process that hashes what is written to a handle, and writes its answer to a file. The handle and
# the process.
sub hasher_to {
    my ($answer) = @_;
    pipe my $reader, my $writer or return;
    my $child = start_child();
    defined $child or return;
    if (!$child) {
        close $writer;
        if (open(STDOUT, q(>), $answer) && open STDIN, q(<&), $reader) {
            open STDERR, q(>), '/dev/null';
            no warnings;
            exec @hash_command;
        }
        kill 9, $$;
    }
    widen($writer);
    return ($writer, $child);
}

# The digest of a large file that was hashed while it arrived.
sub streamed_sum {
    my ($id) = @_;
    my ($child, $answer) = @{delete $streamed{$id} or return};
    1 while waitpid($child, 0) < 0 && $!{EINTR};
    my $text = read_file($answer);
    unlink $answer;
    return defined $text && $text =~ /^\\?([0-9a-f]{64})/ ? $1 : undef;
}
