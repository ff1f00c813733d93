# Removes locks of processes that are gone, and what their runs have left. Its variables are those of
# unlock.sh.

sub unlock {
    beat($in{patience});
    my $base = $in{base};
    my $is_there = make_ours($base, 1);
    my $folder = folder_of(lock_of($base));
    for my $name (sort grep { /^lock-/ } names_in($folder)) {
        my $lock = "$folder/$name";
        lstat $lock;
        next if -l _ || !-d _;
        # The folder of another login is for that one to remove.
        my $is_ours = (lstat _)[4] == $>;
        my ($is_gone, $holder, $owner) = holder_of($lock);
        if (!$is_ours) { ($is_gone, $holder) = (0, $holder // 'unknown') }
        elsif (!defined $owner) { ($is_gone, $holder) = (rmdir $lock, 'unknown') }
        elsif ($is_gone) {
            unlink $owner or $!{ENOENT} or fail("cannot remove $lock ($!)");
            # Another run may have it by now.
            rmdir $lock;
        }
        mark($is_gone ? 'removed' : 'held', $holder);
    }
    remove_dead_runs($base, 1) if $is_there;
    return 'ok';
}
