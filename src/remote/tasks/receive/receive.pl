# Takes an upload into a private folder, as the sink of an SCP stream. It reads whole buffers and answers
# many records at a time, where `scp -t` reads the header of every file byte by byte and writes every
# answer alone. Extents of large files it writes straight into their partials.
#
# While more arrives, one process at a time hashes some megabytes of what has arrived. A large file that
# arrives as a whole has a process of its own.
#
# Its variables are those of receive.sh. What follows on standard input is the stream; a last `E` ends it.

# How much is hashed at once while more arrives.
our $EARLY_BYTES = 8 * 1024 * 1024;
# Files that wait for that, and their size together; the process that hashes, and the files it has written
# its answers to.
our (@waiting, $waiting_bytes, $hasher, @early);

sub receive {
    umask 077;
    my ($base, $run, $into) = @in{qw(base run into)};
    make_ours($base);
    my $top = "$base/$run";
    if ($into eq 'up') {
        # What has arrived is of use to this session alone, except for large files.
        push @at_end, sub { leave($top) };
        remove_dead_runs($base);
        remove_tree("$top/up");
        make_folders("$top/up") or fail("cannot make a folder in $base ($!)");
        sign("$top/owner") or fail("cannot write in $base ($!)");
    }
    else { sign("$top/writer-$$") or fail("cannot write in $base ($!)") }
    mark('scp');
    my $complaint = eval { take_stream("$top/$into"); q() };
    if (!defined $complaint) {
        chomp(my $why = $@);
        say_text("\1scp: $why\n");
        chdir;
        clean_up();
        mark('end 1');
        quit();
    }
    chdir;
    return 0;
}

# Takes the stream into a folder. Dies with what a person has to know.
sub take_stream {
    my ($folder) = @_;
    chdir $folder or die "$folder: $!\n";
    my (@times, @open);
    my $path = q();
    my ($names, $counts) = ({}, {});
    my $is_large = $in{into} eq 'large';
    @waiting = ();
    $waiting_bytes = 0;
    $received{$in{base}} = [$names, $counts] unless $is_large;
    # The names say exactly which permission bits they want.
    umask 0;
    $output .= "\0";
    while (1) {
        my $end;
        while (($end = index $input, "\n") < 0) { need_more() }
        my $header = substr $input, 0, $end + 1, q();
        if ($header =~ /^T(\d+) \d+ (\d+) \d+$/) {
            @times = ($2, $1);
        }
        elsif ($header =~ m{^C([0-7]+) (\d+) ([^/]+)$}) {
            my ($mode, $bytes, $name) = (oct $1, $2, $3);
            my $left = $bytes;
            chomp $name;
            $output .= "\0";
            my ($file, $hasher_input);
            if ($is_large) {
                my ($id, $start) = $name =~ /^([0-9a-f]{64})\.([0-9]+)$/ or die "$path$name: is no extent\n";
                sysopen $file, $id, O_WRONLY or die "$id: $!\n";
                sysseek $file, $start * $in{block}, 0 or die "$id: $!\n";
                delete $streamed{$id};
                if ($start == 0 && $bytes == ($large_size{$id} || 0) && !-s $file) {
                    # All of it, from its first byte to its last.
                    ($hasher_input, my $child) = hasher_to("../sum-$id");
                    $streamed{$id} = [$child, "$folder/../sum-$id"] if $hasher_input;
                }
            }
            else {
                sysopen $file, $name, O_WRONLY | O_CREAT | O_EXCL, $mode & 0777 or die "$path$name: $!\n";
            }
            while ($left) {
                need_more() unless length $input;
                my $wanted = $left < length $input ? $left : length $input;
                my $count = syswrite $file, $input, $wanted;
                defined $count or $!{EINTR} ? next : die "$path$name: $!\n";
                # One that has ended early has no answer, and the file is hashed later.
                for (my $at = 0; $hasher_input && $at < $count;) {
                    my $hashed = syswrite $hasher_input, $input, $count - $at, $at;
                    if (defined $hashed) { $at += $hashed }
                    elsif (!$!{EINTR}) { $hasher_input = undef }
                }
                substr $input, 0, $count, q();
                $left -= $count;
            }
            close $hasher_input if $hasher_input;
            need_more() unless length $input;
            substr($input, 0, 1, q()) eq "\0" or die "$path$name: its end is missing\n";
            utime @times, $file if @times;
            # Writing has taken these bits away.
            chmod $mode, $file if $mode & 07000;
            close $file or die "$path$name: $!\n";
            hash_early($folder, "$path$name", $bytes) unless $is_large;
            $names->{"$path$name"} = 1;
            $counts->{$path}++;
            @times = ();
        }
        elsif ($header =~ m{^D([0-7]+) \d+ ([^/]+)$}) {
            my ($mode, $name) = (oct $1, $2);
            chomp $name;
            die "$path$name: is no name\n" if $name eq q(.) || $name eq q(..);
            if (mkdir $name, 0700) { $counts->{$path}++ }
            elsif (!-d $name) { die "$path$name: $!\n" }
            chdir $name or die "$path$name: $!\n";
            push @open, [$path, $name, $mode, @times];
            $path .= "$name/";
            $counts->{$path} ||= 0;
            @times = ();
        }
        elsif ($header eq "E\n") {
            if (!@open) {
                $output .= "\0";
                flush();
                return;
            }
            my ($name, $mode);
            ($path, $name, $mode, @times) = @{pop @open};
            chdir q(..) or die "$path: $!\n";
            chmod $mode, $name or die "$path$name: $!\n";
            utime @times, $name if @times;
            @times = ();
        }
        else { die "protocol error: unexpected <newline>\n" }
        $output .= "\0";
    }
}

# Reads more of the stream. Before it waits, it gives the answers that are due.
sub need_more {
    flush() if length $output;
    more() or die "lost connection\n";
}

# Has a file that is complete hashed with others, when there is enough to do and nobody does it yet.
sub hash_early {
    my ($folder, $name, $bytes) = @_;
    push @waiting, $name;
    # A name takes room among the arguments, too.
    $waiting_bytes += $bytes + 64 * length $name;
    return if $waiting_bytes < $EARLY_BYTES;
    # 1 is to return at once.
    return if defined $hasher && waitpid($hasher, 1) == 0;
    return unless find_hash();
    my $sums = "$folder/../sums-" . @early;
    $hasher = start_child();
    if (defined $hasher && !$hasher) {
        if (chdir && open(STDOUT, q(>), $sums) && chdir $folder) {
            open STDIN,  q(<), '/dev/null';
            open STDERR, q(>), '/dev/null';
            no warnings;
            exec @hash_command, splice @waiting, 0, 1000;
        }
        kill 9, $$;
    }
    push @early, $sums;
    splice @waiting, 0, 1000;
    $waiting_bytes = 0;
}

# The digests that were computed while the upload went on, by name.
sub early_sums {
    waitpid $hasher, 0 if defined $hasher;
    $hasher = undef;
    my %sums = map { read_sums(read_file($_) || q()) } @early;
    unlink @early;
    @early = ();
    return %sums;
}
